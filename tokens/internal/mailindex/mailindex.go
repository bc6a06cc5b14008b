// SPDX-License-Identifier: MIT

// Package mailindex finds the id of a mail address, which every gateway must find the
// same.
//
// An address is indexed under every configured key. While a secret is rotated,
// gateways have the keys in different orders, or lack one, and all must give the
// address the same id. So each goes through the entries in the order of the ids of the
// keys, carrying an id: it puts that where no entry is, and goes on with the one that
// is there. The id that it carries at the end is the one of the address. If there is a
// key that all have, all pass its entry, which was set once, and what they put
// behind it is what they found there. Entries before it that differ are set right.
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

// New makes an index. same is told of two ids of one address.
func New(db *redisdb.DB, keys *vault.Ring, same func(ctx context.Context, ids ...string) error) *Index {
	return &Index{db: db, keys: keys, same: same}
}

// Names are the names of the entries of an address, in that order.
func (x *Index) Names(m grammar.Mail) []string {
	names := make([]string, 0, len(x.keys.Keys))
	for _, k := range x.keys.Sorted() {
		names = append(names, redisdb.KeyMail(k, string(m)))
	}
	return names
}

// Find looks the address up under every configured key, and keeps it under all
// of them. "" means that the address was never seen.
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

// claimScript sets an entry of the index unless it is there, and answers it.
var claimScript = redisdb.NewScript(`
redis.call('SETNX', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])`)

// replaceScript sets a key that still has a value. ARGV: that, what it becomes.
var replaceScript = redisdb.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1`)

// Agree returns the id of an address, which is id if it has none.
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

// ClaimAgainScript is claimScript that answers whether another gateway has given the
// address another id meanwhile.
var ClaimAgainScript = redisdb.NewScript(`
redis.call('SETNX', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1]) == ARGV[1] and 0 or 1`)
