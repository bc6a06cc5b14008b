// SPDX-License-Identifier: MIT

// Package gateways lists the gateways of an installation. Each announces itself in Redis
// with its version, its keys, and how far its feed lags. An entry that was not renewed
// for a while belongs to a gateway that ended without notice.
package gateways

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

const (
	// announceEvery is how often a gateway renews its entry.
	announceEvery = 10 * time.Second
	// SilentAfter is when an entry counts as silent.
	SilentAfter = 3 * announceEvery
	// GoneAfter is when an entry is removed, by any gateway.
	GoneAfter = 10 * time.Minute
	// maxGateways bounds what is read and shown.
	maxGateways = 1000
)

// Gateway is one gateway of the installation, as it describes itself.
type Gateway struct {
	// ID is random and changes with each start.
	ID string `json:"id"`
	// Host is the name of its machine or container.
	Host string `json:"host"`
	// Version is that of its program.
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Heard is when it last renewed this entry, by the clock of Redis.
	Heard time.Time `json:"heard"`
	// Silent is true if Heard is too long ago: the gateway has ended without notice, or is
	// cut off.
	Silent bool `json:"silent,omitempty"`
	// Self is true for the gateway that answers.
	Self bool `json:"self,omitempty"`
	// Uses are the ids of the keys it signs, hashes and encrypts with. Keys are all that it
	// has.
	Uses []string `json:"uses"`
	Keys []string `json:"keys"`
	// LagSeconds is how long ago its feed was complete when it last renewed this
	// entry; absent while it hears nothing.
	LagSeconds *float64 `json:"lag_seconds,omitempty"`
	// Fresh tells whether it decided from memory then.
	Fresh bool `json:"fresh"`
	// ClockAheadSeconds is how far its clock was ahead of that of Redis.
	ClockAheadSeconds float64 `json:"clock_ahead_seconds"`
}

// announceScript renews an entry under the clock of Redis, and answers that clock
// in microseconds. ARGV: id, document.
var announceScript = redisdb.NewScript(`
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000000 + t[2])
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
return now`)

// List is the list as seen by one gateway.
type List struct {
	db         *redisdb.DB
	feed       *feed.Feed
	version    string
	uses, keys []string
	ahead      atomic.Int64 // of its clock, in nanoseconds, when it was last announced
}

// New makes the list of a gateway that uses some of its keys.
func New(db *redisdb.DB, f *feed.Feed, version string, uses, keys []string) *List {
	return &List{db: db, feed: f, version: version, uses: uses, keys: keys}
}

// Follow renews this gateway's entry until ctx ends, and then removes it.
func (l *List) Follow(ctx context.Context) {
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	var tidied time.Time
	for {
		if err := l.Announce(ctx); err == nil && time.Since(tidied) > GoneAfter {
			_, _ = l.All(ctx) // removes the entries of gateways that are gone
			tidied = time.Now()
		}
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.db.Timeout())
			defer cancel()
			_ = l.db.RemoveFields(ctx, redisdb.KeyGateways, l.feed.Node()) // else it is removed later
			return
		case <-tick.C:
		}
	}
}

// Announce renews this gateway's entry. The error is ErrUnavailable.
func (l *List) Announce(ctx context.Context) error {
	const doing = "announcing this gateway"
	g := l.Self()
	g.ClockAheadSeconds = time.Duration(l.ahead.Load()).Seconds()
	document, err := json.Marshal(g)
	if err != nil {
		return failure.Unavailable(doing, err)
	}
	began := time.Now()
	text, err := l.db.Eval(ctx, announceScript, redisdb.KeyGateways, l.feed.Node(), document).Text()
	if err != nil {
		return failure.Unavailable(doing, err)
	}
	took := time.Since(began)
	micros, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return failure.Unavailable(doing, err)
	}
	off := began.Add(took / 2).Sub(time.UnixMicro(micros))
	if off.Abs() <= took/2 { // the answer took longer than the difference
		off = 0
	}
	l.ahead.Store(int64(off.Round(time.Millisecond)))
	return nil
}

// Self describes this gateway, without asking Redis.
func (l *List) Self() Gateway {
	g := Gateway{
		ID: l.feed.Node(), Host: hostname(), Version: l.version, Started: l.feed.Started().UTC().Truncate(time.Millisecond),
		Self: true, Uses: l.uses, Keys: l.keys, Fresh: l.feed.Fresh(),
	}
	if lag, ok := l.feed.Lag(); ok {
		seconds := lag.Round(time.Millisecond).Seconds()
		g.LagSeconds = &seconds
	}
	return g
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// All returns the gateways that were heard of lately, this one included, in the order in
// which they were started. The error is ErrUnavailable.
func (l *List) All(ctx context.Context) ([]Gateway, error) {
	entries, now, err := l.db.HashNow(ctx, redisdb.KeyGateways)
	if err != nil {
		return nil, failure.Unavailable("listing the gateways", err)
	}
	list := []Gateway{l.Self()}
	list[0].Heard = now.UTC().Truncate(time.Second)
	var gone []string
	for id, text := range entries {
		if id == l.feed.Node() {
			continue
		}
		heard, document, _ := strings.Cut(text, " ")
		micros, err := strconv.ParseInt(heard, 10, 64)
		var g Gateway
		if err != nil || json.Unmarshal([]byte(document), &g) != nil || now.Sub(time.UnixMicro(micros)) > GoneAfter {
			gone = append(gone, id)
			continue
		}
		g.ID, g.Self, g.Heard = id, false, time.UnixMicro(micros).UTC().Truncate(time.Second)
		g.Silent = now.Sub(time.UnixMicro(micros)) > SilentAfter
		if len(list) < maxGateways {
			list = append(list, g)
		}
	}
	if len(gone) > 0 {
		_ = l.db.RemoveFields(ctx, redisdb.KeyGateways, gone...) // else the next call does
	}
	slices.SortFunc(list, func(x, y Gateway) int {
		return cmp.Or(x.Started.Compare(y.Started), cmp.Compare(x.ID, y.ID))
	})
	return list, nil
}
