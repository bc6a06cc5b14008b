// SPDX-License-Identifier: MIT

// Package rekey stores the report of a pass that moves data to a new secret. The report says
// what could not be moved, and so which secrets are safe to remove. A pass calls [New], then
// [Report.Of] for what is left, and [Report.Save]; [Load] returns the last report.
package rekey

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// shown is how many applications a report names.
const shown = 20

// New begins the report of a pass that moves data to a key.
func New(key string, began time.Time) *Report {
	return &Report{Key: key, Began: began.UnixMilli(), Left: map[string]*Leftover{}}
}

// Report is the stored report of the last pass.
type Report struct {
	Key   string               `json:"key"`   // the key that data was moved to
	Began int64                `json:"began"` // unix milliseconds
	Left  map[string]*Leftover `json:"left"`  // by key id
}

// Leftover counts what is still made with a key.
type Leftover struct {
	Users         int      `json:"users,omitempty"` // that could not be moved
	Applications  int      `json:"applications,omitempty"`
	Named         []string `json:"named,omitempty"` // the first of them
	RefreshTokens int      `json:"refresh_tokens,omitempty"`
	// RefreshOf counts refresh tokens by application, for the first applications.
	RefreshOf map[string]int `json:"refresh_of,omitempty"`
}

// String describes it for an operator; "" if nothing is left.
func (l *Leftover) String() string {
	if l == nil {
		return ""
	}
	var parts []string
	if l.Applications > 0 {
		parts = append(parts, fmt.Sprintf("applications that have not used their secret since: %d (%s)", l.Applications, strings.Join(l.Named, ", ")))
	}
	if l.RefreshTokens > 0 {
		whose := make([]string, 0, len(l.RefreshOf))
		for _, name := range slices.Sorted(maps.Keys(l.RefreshOf)) {
			whose = append(whose, fmt.Sprintf("%s: %d", name, l.RefreshOf[name]))
		}
		parts = append(parts, fmt.Sprintf("refresh tokens that have not been used since: %d (%s)", l.RefreshTokens, strings.Join(whose, ", ")))
	}
	if l.Users > 0 {
		parts = append(parts, fmt.Sprintf("users that are not moved: %d", l.Users))
	}
	return strings.Join(parts, "; ")
}

// LeaveApplication counts an application that is left.
func (l *Leftover) LeaveApplication(application string) {
	l.Applications++
	if len(l.Named) < shown {
		l.Named = append(l.Named, application)
		slices.Sort(l.Named)
	}
}

// LeaveRefreshToken counts a refresh token that is left, by its application.
func (l *Leftover) LeaveRefreshToken(application string) {
	l.RefreshTokens++
	if l.RefreshOf == nil {
		l.RefreshOf = map[string]int{}
	}
	if _, named := l.RefreshOf[application]; named || len(l.RefreshOf) < shown {
		l.RefreshOf[application]++
	}
}

// Of returns what is left of a key.
func (r *Report) Of(key string) *Leftover {
	if r.Left[key] == nil {
		r.Left[key] = new(Leftover)
	}
	return r.Left[key]
}

// Load returns the report of the last pass; an empty one if there is none, or with an error.
func Load(ctx context.Context, db *redisdb.DB) (*Report, error) {
	r := new(Report)
	text, err := db.Get(ctx, redisdb.KeyRekeyed)
	if err != nil {
		return new(Report), failure.Unavailable("reading what is left of a secret", err)
	}
	if text != "" && json.Unmarshal([]byte(text), r) != nil {
		return new(Report), nil // of another version
	}
	return r, nil
}

// Save keeps the report.
func (r *Report) Save(ctx context.Context, db *redisdb.DB) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding what is left of a secret: %w", err)
	}
	if err := db.Set(ctx, redisdb.KeyRekeyed, text, 0); err != nil {
		return failure.Unavailable("writing what is left of a secret", err)
	}
	return nil
}

// BeganAfter reports whether the pass began after a time.
func (r *Report) BeganAfter(t time.Time) bool { return time.UnixMilli(r.Began).After(t) }
