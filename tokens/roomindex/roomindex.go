// SPDX-License-Identifier: MIT

// Package roomindex finds rooms by their slugs. [Index.RememberRooms] stores the slugs seen in
// Meet's answers, and [Index.FindSlug] finds a room. It grants no permission.
package roomindex

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/background"
	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

const (
	// slugLifetime is how long a slug is remembered after it was last seen.
	slugLifetime = 30 * 24 * time.Hour
	// slugRefresh is how often a slug that is seen constantly is written.
	slugRefresh = 24 * time.Hour
	// maxSlugWriters is how many pages of rooms are written at a time. More are dropped,
	// since they will be seen again.
	maxSlugWriters = 4
	// maxSlug is Meet's bound.
	maxSlug = 100
)

// Index is the index in Redis, with a cache in this gateway.
type Index struct {
	db         *redisdb.DB
	feed       *feed.Feed
	ring       *vault.Ring
	background *background.Pool
	now        func() time.Time
	known      *memory.Bounded[slugKey, knownSlug]
	writers    atomic.Int32
}

type slugKey struct{ backend, slug string }

type knownSlug struct {
	room    string
	written time.Time
}

// New makes an index. entries bounds its cache.
func New(db *redisdb.DB, f *feed.Feed, ring *vault.Ring, p *background.Pool, now func() time.Time, entries int) *Index {
	return &Index{
		db: db, feed: f, ring: ring, background: p, now: now,
		known: memory.NewBounded[slugKey, knownSlug](entries),
	}
}

// RememberRooms stores rooms, pairs of slug and id, so that [Index.FindSlug] finds them for
// 30 days. backend names their Meet. It returns at once and writes in the background.
// Rooms that this gateway has stored within a day cost nothing.
//
// The index is no permission: the caller must ask Meet for the room on behalf of the user
// and return only Meet's answer.
func (x *Index) RememberRooms(backend string, rooms iter.Seq2[string, string]) {
	now := x.now()
	fresh := map[slugKey]string{}
	for slug, room := range rooms {
		k := slugKey{backend, slug}
		if known, ok := x.known.Load(k); ok && known.room == room && now.Sub(known.written) < slugRefresh {
			continue
		}
		if len(slug) <= maxSlug && vault.IsSlug(slug) && room != "" {
			fresh[k] = room
		}
	}
	if len(fresh) == 0 {
		return
	}
	x.background.Go(func(ctx context.Context) {
		defer x.writers.Add(-1)
		if x.writers.Add(1) > maxSlugWriters {
			return
		}
		values := map[string]string{}
		for k, room := range fresh {
			values[x.keySlug(k)] = room
		}
		if err := x.db.SetAll(ctx, values, slugLifetime); err != nil {
			return // the rooms will be seen again
		}
		for k, room := range fresh {
			x.known.Store(k, knownSlug{room, now})
		}
	})
}

// FindSlug returns the id of the room that had the slug when it was last seen.
// Errors: ErrNotFound, ErrUnavailable.
func (x *Index) FindSlug(ctx context.Context, backend, slug string) (string, error) {
	k := slugKey{backend, slug}
	if known, ok := x.known.Load(k); ok {
		return known.room, nil
	}
	if len(slug) > maxSlug || !vault.IsSlug(slug) {
		return "", fmt.Errorf("slug: %w", failure.ErrNotFound)
	}
	var room string
	err := x.feed.Read(ctx, "looking up a slug", func(ctx context.Context, r feed.Reader) (found bool, err error) {
		room, err = r.Get(ctx, x.keySlug(k)).Result()
		return room != "", err //nolint:wrapcheck // wrapped by Read
	})
	if err != nil {
		return "", err
	}
	if room == "" {
		return "", fmt.Errorf("slug: %w", failure.ErrNotFound)
	}
	// Without a time, since another gateway may have written it.
	x.known.Store(k, knownSlug{room: room})
	return room, nil
}

// ForgetSlug removes a slug if it belongs to room, because Meet says that the room is gone
// or has another slug. The error is ErrUnavailable.
func (x *Index) ForgetSlug(ctx context.Context, backend, slug, room string) error {
	k := slugKey{backend, slug}
	x.known.Delete(k)
	if err := x.db.DeleteEqual(ctx, x.keySlug(k), room); err != nil {
		return failure.Unavailable("forgetting a slug", err)
	}
	return nil
}

func (x *Index) keySlug(k slugKey) string {
	return redisdb.KeyName(x.ring.First(), redisdb.KindSlug, k.backend, k.slug)
}
