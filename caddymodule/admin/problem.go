// SPDX-License-Identifier: MIT

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// outageRetry is the Retry-After of an outage.
const outageRetry = 2 * time.Second

func writeProblem(w http.ResponseWriter, p *wire.Problem) {
	out := *p
	out.Title = http.StatusText(p.Status)
	body, err := json.Marshal(out)
	if err != nil { // not possible for texts and encoded values
		panic(err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}

// problems maps errors to answers for administrators, who may learn the cause.
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

// The texts for an outage of Redis, during a change and during a read.
const (
	detailNotAcknowledged = "Redis did not acknowledge. The change may or may not have been made. Repeating it is safe, " +
		"except that creating again makes another application, and rotating again ends the secret before the last."
	detailNoAnswer = "Redis does not answer. Try again."
)

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

// conflictText omits the general text if the error names what it conflicts with.
func conflictText(err error) string {
	text := err.Error()
	if cut, ok := strings.CutSuffix(text, ": "+tokens.ErrConflict.Error()); ok && (strings.Contains(cut, "belongs to") || strings.Contains(cut, "the one that signs")) {
		return cut
	}
	return text
}

// invalidField splits an ErrInvalidApplication into field and reason.
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

// typeProblem is the answer to JSON of a wrong type. The decoder's text names Go types.
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

// sentence makes an error text a sentence.
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
