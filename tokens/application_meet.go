// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// NotGranted are scopes that Meet did not grant an application in its last token. The
// application's tokens lack them.
type NotGranted struct {
	// Meet is the host of Meet.
	Meet   string    `json:"meet"`
	Scopes Scopes    `json:"scopes"`
	Since  time.Time `json:"since"`
}

// prefixNotGranted + host, in applications: unix milliseconds and scopes, as
// notGrantedScript writes them.
const prefixNotGranted = "m:"

// notGrantedScript records what was not granted, and since when. ARGV: field, now, scopes.
var notGrantedScript = redisdb.NewScript(`
if redis.call('HEXISTS', KEYS[1], 'd') == 0 then return 0 end
if ARGV[3] == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local have = redis.call('HGET', KEYS[1], ARGV[1])
if have and string.match(have, '^%d+ (.*)$') == ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return 1`)

// NoteGranted records which of the wanted scopes Meet has just granted, so that operators
// see the missing ones. It writes changes only, in the background.
func (r *registry) NoteGranted(app *Application, meet string, wanted, granted Scopes) {
	missing := slices.DeleteFunc(slices.Clone(wanted), granted.Has)
	known := slices.IndexFunc(app.NotGranted, func(n NotGranted) bool { return n.Meet == meet })
	if known < 0 && len(missing) == 0 || known >= 0 && slices.Equal(app.NotGranted[known].Scopes, missing) {
		return
	}
	r.background.Go(func(ctx context.Context) {
		done, err := r.db.Eval(ctx, notGrantedScript, redisdb.KeyApplication(app.ID),
			prefixNotGranted+meet, r.now().UnixMilli(), missing.String()).Int64()
		switch {
		case err != nil: // the next exchange tries again
		case done > 0:
			_ = r.feed.Forget(ctx, redisdb.KeyApplication(app.ID)) // retried later if it fails
		default:
			r.cache.forget(redisdb.KeyApplication(app.ID)) // another gateway has written it
		}
	})
}

// notGranted reads what NoteGranted wrote, for scopes that the application still has.
func notGranted(m map[string]string, has Scopes) []NotGranted {
	var list []NotGranted
	for field, value := range m {
		meet, ok := strings.CutPrefix(field, prefixNotGranted)
		if !ok {
			continue
		}
		since, names, _ := strings.Cut(value, " ")
		scopes, err := NewScopes(strings.Fields(names)...)
		if missing := scopes.Intersect(has); err == nil && len(missing) > 0 {
			list = append(list, NotGranted{Meet: meet, Scopes: missing, Since: parseInstant(since)})
		}
	}
	slices.SortFunc(list, func(a, b NotGranted) int { return strings.Compare(a.Meet, b.Meet) })
	return list
}

// field returns the field of the application's hash that stores it.
func (n NotGranted) field() (name, value string) {
	return prefixNotGranted + n.Meet, strconv.FormatInt(n.Since.UnixMilli(), 10) + " " + n.Scopes.String()
}

// warning tells an operator what to do.
func (n NotGranted) warning() string {
	return fmt.Sprintf("Meet at %s has not granted %s since %s: tokens lack it; tick it in Meet's admin for the application that is presented there, then edit this application or revoke its tokens",
		n.Meet, n.Scopes, n.Since.Format(time.RFC3339))
}

// LearnsBackend returns the client id at Meet of an imported secret that may become the
// application's backend credentials at its first use; "" if there is none.
func (app *Application) LearnsBackend() string {
	if app.Backend != nil || app.sealed.backend != "" {
		return ""
	}
	for _, v := range app.storedSecrets {
		if v.Client != "" {
			return v.Client
		}
	}
	return ""
}

// LearnBackend makes an imported secret that was just used the application's backend
// credentials if Meet accepted it, and otherwise stops trying. Call it for the client id
// that [Application.LearnsBackend] returned. If another gateway was first, nothing
// changes. Errors: ErrNotFound, ErrConflict, ErrUnavailable.
func (r *registry) LearnBackend(ctx context.Context, applicationID string, c BackendCredentials, accepted bool) error {
	_, err := r.change(ctx, applicationID, 0, func(n *Application) error {
		switch {
		case n.LearnsBackend() != c.ClientID:
			return errDecided
		case accepted:
			n.Backend = &c
		default:
			n.ForgetBackend()
		}
		return nil
	})
	if errors.Is(err, errDecided) {
		return nil
	}
	return err
}

var errDecided = errors.New("another gateway has decided")
