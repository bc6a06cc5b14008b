// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
)

const (
	// slugLifetime is how long a room's slug is known without having been seen.
	slugLifetime = 30 * 24 * time.Hour
	// slugRefresh is how often a slug that is seen all the time is written.
	slugRefresh = 24 * time.Hour
	// maxSlugWriters is how many pages of rooms are written at a time. More are
	// left out: they will be seen again.
	maxSlugWriters = 4
	// maxSlug is Meet's bound.
	maxSlug = 100
)

// slugIndex remembers which room has which slug.
type slugIndex struct {
	known   *otter.Cache[slugKey, knownSlug]
	writers atomic.Int32
}

type slugKey struct{ backend, slug string }

type knownSlug struct {
	room    string
	written time.Time
}

func newSlugIndex(entries int) *slugIndex {
	return &slugIndex{known: newBounded[slugKey, knownSlug](entries)}
}

// RememberRooms notes the ids of rooms by slug, as seen in an answer of Meet, so
// that [Authority.FindSlug] finds them for 30 days. backend names the Meet they
// are of. It returns at once and writes in the background; rooms that this
// gateway has noted within a day cost nothing.
//
// The index is not permission: whoever asks for a slug must be given what Meet
// answers to them for the id, and nothing else.
func (a *Authority) RememberRooms(backend string, rooms map[string]string) {
	now := a.now()
	fresh := map[slugKey]string{}
	for slug, room := range rooms {
		if len(slug) > maxSlug || !isSlug(slug) || room == "" {
			continue
		}
		k := slugKey{backend, slug}
		if known, ok := a.slugs.known.GetIfPresent(k); ok && known.room == room && now.Sub(known.written) < slugRefresh {
			continue
		}
		fresh[k] = room
	}
	if len(fresh) == 0 {
		return
	}
	a.inBackground(func(ctx context.Context) {
		defer a.slugs.writers.Add(-1)
		if a.slugs.writers.Add(1) > maxSlugWriters {
			return
		}
		values := map[string]string{}
		for k, room := range fresh {
			values[a.keySlug(k)] = room
		}
		if err := a.db.SetAll(ctx, values, slugLifetime); err != nil {
			return // they will be seen again
		}
		for k, room := range fresh {
			a.slugs.known.Set(k, knownSlug{room, now})
		}
	})
}

// FindSlug returns the id of the room that had the slug when it was last seen.
// Errors: ErrNotFound, ErrUnavailable.
func (a *Authority) FindSlug(ctx context.Context, backend, slug string) (string, error) {
	k := slugKey{backend, slug}
	if known, ok := a.slugs.known.GetIfPresent(k); ok {
		return known.room, nil
	}
	if len(slug) > maxSlug || !isSlug(slug) {
		return "", fmt.Errorf("slug: %w", ErrNotFound)
	}
	var room string
	err := a.feed.Read(ctx, "looking up a slug", func(ctx context.Context, r feed.Reader) (found bool, err error) {
		room, err = r.Get(ctx, a.keySlug(k)).Result()
		return room != "", err //nolint:wrapcheck // wrapped by Read
	})
	if err != nil {
		return "", err
	}
	if room == "" {
		return "", fmt.Errorf("slug: %w", ErrNotFound)
	}
	// Without the instant, which only who has written it knows.
	a.slugs.known.Set(k, knownSlug{room: room})
	return room, nil
}

// ForgetSlug drops what is noted for a slug if that is room: Meet says that the
// room is gone, or has another slug. The error is ErrUnavailable.
func (a *Authority) ForgetSlug(ctx context.Context, backend, slug, room string) error {
	k := slugKey{backend, slug}
	a.slugs.known.Invalidate(k)
	if err := a.db.DeleteEqual(ctx, a.keySlug(k), room); err != nil {
		return unavailable("forgetting a slug", err)
	}
	return nil
}

func (a *Authority) keySlug(k slugKey) string { return keyName(a.keys.First(), "s", k.backend, k.slug) }
