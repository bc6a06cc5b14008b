// SPDX-License-Identifier: MIT

// Package mailindex maps a mail address to a user id, so that all gateways agree on the
// id without a lock.
//
// An address has one entry for every configured key, because gateways that are in the
// middle of a rotation have different keys. A gateway visits the entries in the order of
// their key ids with an id in hand: it fills an empty entry with that id, and takes the
// id of an entry that is set. The last id wins, and entries that differ are corrected.
// All gateways agree as long as they share one key: its entry is set once, every gateway
// passes it, and from there on all carry the same id.
package mailindex

import (
	"cmp"
	"context"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Index is the index of an installation.
type Index struct {
	db   *redisdb.DB
	keys *vault.Ring
	same func(ctx context.Context, ids ...string) error
}

// New makes an index. It calls same when one address turns out to have two ids.
func New(db *redisdb.DB, keys *vault.Ring, same func(ctx context.Context, ids ...string) error) *Index {
	return &Index{db: db, keys: keys, same: same}
}

// Names are the names of an address's entries, in the order of their key ids.
func (x *Index) Names(m grammar.Mail) []string {
	names := make([]string, 0, len(x.keys.Keys))
	for _, k := range x.keys.Sorted() {
		names = append(names, redisdb.KeyMail(k, string(m)))
	}
	return names
}

// Find returns the id of an address, "" for one that was never seen. It fills entries
// that are missing.
func (x *Index) Find(ctx context.Context, m grammar.Mail) (string, error) {
	ids, err := x.db.GetAll(ctx, x.Names(m)...)
	if err != nil {
		return "", failure.Unavailable("looking up a user", err)
	}
	var last string
	agreed := true
	for i, id := range ids {
		agreed = agreed && (i == 0 || id == last)
		last = cmp.Or(id, last)
	}
	if last == "" || agreed {
		return last, nil
	}
	return x.Agree(ctx, m, last)
}

// claimScript sets an entry unless it is set, and answers its value.
var claimScript = redisdb.NewScript(`
redis.call('SETNX', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])`)

// replaceScript replaces one value by another. ARGV: the old value, the new one.
var replaceScript = redisdb.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1`)

// Agree returns the id of an address. An address without one gets id.
func (x *Index) Agree(ctx context.Context, m grammar.Mail, id string) (string, error) {
	names := x.Names(m)
	found := make([]string, len(names))
	for i, name := range names {
		var err error
		if id, err = x.db.Eval(ctx, claimScript, name, id).Text(); err != nil {
			return "", failure.Unavailable("indexing a user", err)
		}
		found[i] = id
	}
	for i, other := range found {
		if other == id {
			continue
		}
		if err := x.same(ctx, id, other); err != nil {
			return "", err
		}
		if err := x.db.Eval(ctx, replaceScript, names[i], other, id).Err(); err != nil {
			return "", failure.Unavailable("indexing a user", err)
		}
	}
	return id, nil
}

// ClaimAgainScript is claimScript for the journal. It answers 1 if the entry has another
// id.
var ClaimAgainScript = redisdb.NewScript(`
redis.call('SETNX', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1]) == ARGV[1] and 0 or 1`)
