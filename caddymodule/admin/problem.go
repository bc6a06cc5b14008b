// SPDX-License-Identifier: MIT

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// outageRetry is when to come back after an outage of the store.
const outageRetry = 2 * time.Second

func writeProblem(w http.ResponseWriter, p *wire.Problem) {
	out := *p
	out.Title = http.StatusText(p.Status)
	body, err := json.Marshal(out)
	if err != nil { // texts, and what was marshalled before
		panic(err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // the client may have gone away
}

// problems is the table from domain error to answer for administrators, as
// failures is for callers. Here causes are told: who may call may know.
var problems = []struct {
	err    error
	status int
	detail string
}{
	{tokens.ErrUnavailable, http.StatusServiceUnavailable, detailNotAcknowledged},
	{tokens.ErrBusy, http.StatusServiceUnavailable, "The gateway is too busy."},
	{tokens.ErrNotFound, http.StatusNotFound, "There is nothing with this id."},
	{tokens.ErrConflict, http.StatusConflict, ""},
	{tokens.ErrInvalidInstant, http.StatusUnprocessableEntity, "The time is in the future."},
	{tokens.ErrInvalidApplication, http.StatusUnprocessableEntity, ""},
	{context.Canceled, http.StatusServiceUnavailable, "The request was cancelled."},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "The request took too long."},
}

// The texts for an outage of Redis: of a change, and of a read.
const (
	detailNotAcknowledged = "Redis did not acknowledge. A change may have been made or not; making it again is safe, " +
		"except that creating again makes another application, and that rotating again ends the secret before the last."
	detailNoAnswer = "Redis does not answer. Nothing was to be changed; try again."
)

// problemOf turns any error into an answer.
func problemOf(err error) *wire.Problem {
	if p, ok := errors.AsType[*wire.Problem](err); ok {
		return p
	}
	for _, row := range problems {
		if !errors.Is(err, row.err) {
			continue
		}
		p := &wire.Problem{Status: row.status, Detail: row.detail}
		if row.status == http.StatusServiceUnavailable {
			p.RetryAfter = outageRetry
		}
		switch {
		case errors.Is(row.err, tokens.ErrInvalidApplication):
			p.Field, p.Detail = invalidField(err)
		case errors.Is(row.err, tokens.ErrConflict):
			p.Detail = sentence(conflictText(err))
		}
		return p
	}
	return &wire.Problem{Status: http.StatusInternalServerError, Detail: "Internal error."}
}

// conflictText leaves out the general text where the error says what
// it conflicts with.
func conflictText(err error) string {
	text := err.Error()
	if cut, ok := strings.CutSuffix(text, ": "+tokens.ErrConflict.Error()); ok && (strings.Contains(cut, "belongs to") || strings.Contains(cut, "the one that signs")) {
		return cut
	}
	return text
}

// invalidField takes the field and the reason out of an ErrInvalidApplication,
// which says them in this order.
func invalidField(err error) (field, reason string) {
	_, text, found := strings.Cut(err.Error(), tokens.ErrInvalidApplication.Error()+": ")
	if !found {
		return "", sentence(err.Error())
	}
	field, reason, found = strings.Cut(text, ": ")
	if !found {
		return "", sentence(text)
	}
	return field, sentence(reason)
}

// typeProblem answers for JSON of the wrong type. The decoder's own words name
// Go types.
func typeProblem(err error) error {
	p := &wire.Problem{Status: http.StatusBadRequest, Detail: "A field has the wrong type."}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		p.Field = wrong.Field
	}
	return p
}

func badField(field, format string, args ...any) error {
	return &wire.Problem{Status: http.StatusBadRequest, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// sentence makes a message of Go a sentence for people.
func sentence(s string) string {
	if s == "" {
		return s
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

func bytesText(n int64) string { return humanize.IBytes(uint64(n)) }

func keysOf[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }
