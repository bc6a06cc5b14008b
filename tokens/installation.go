// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// installation is what overrules tokens whoever they belong to.
type installation struct {
	// generation is counted up to revoke everything issued so far.
	generation uint64
	// notBefore refuses tokens issued before it.
	notBefore time.Time
	// withdrawn are the ids of signing keys whose tokens are refused.
	withdrawn map[string]bool
	// lastSigned is, by key id, until when something signed by the key lives, or for
	// how long a gateway has said that it uses the key (see missingkeys.go).
	lastSigned map[string]time.Time

	read time.Time // from Redis
}

// Fields of the installation's hash.
const (
	fieldGeneration  = "g"  // also in applications and users
	fieldNotBefore   = "nb" // unix milliseconds
	prefixWithdrawn  = "w:" // + key id
	prefixLastSigned = "s:" // + key id: unix seconds until when it is in use
	prefixGrantGen   = "g:" // in users: + application id
	fieldDocument    = "d"
	fieldVersion     = "v"
	fieldLastUsed    = "u"
	prefixSecretUsed = "s:" // in applications: + secret id
)

// parseInstallation fails on a field that an installation does not have: what
// was read is then something else.
func parseInstallation(m map[string]string) (*installation, error) {
	in := &installation{
		generation: parseUint(m[fieldGeneration]),
		withdrawn:  map[string]bool{}, lastSigned: map[string]time.Time{},
	}
	if ms := parseUint(m[fieldNotBefore]); ms > 0 {
		in.notBefore = time.UnixMilli(int64(ms))
	}
	for k, v := range m {
		id := k[min(len(k), len(prefixWithdrawn)):] // all prefixes are as long
		switch {
		case k == fieldGeneration, k == fieldNotBefore:
		case strings.HasPrefix(k, prefixWithdrawn):
			in.withdrawn[id] = true
		case strings.HasPrefix(k, prefixLastSigned):
			in.lastSigned[id] = time.Unix(int64(parseUint(v)), 0)
		default:
			return nil, fmt.Errorf("the installation has an unknown field %.8q", k)
		}
	}
	return in, nil
}

// overruling is what was ever read of instants and keys that overrule tokens.
// Neither is ever taken back, so a Redis that does not have them has lost them, and
// until they are written again this gateway does not forget.
type overruling struct {
	mu        sync.Mutex
	notBefore time.Time
	withdrawn map[string]bool
}

// keep adds to an installation what was known before, and notes what is new.
func (o *overruling) keep(in *installation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if in.notBefore.Before(o.notBefore) {
		in.notBefore = o.notBefore
	}
	o.notBefore = in.notBefore
	for kid := range o.withdrawn {
		in.withdrawn[kid] = true
	}
	o.withdrawn = maps.Clone(in.withdrawn)
}

// withdraws reports whether a key is known to be withdrawn.
func (o *overruling) withdraws(kid string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.withdrawn[kid]
}

func parseUint(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // absent is 0; only this package writes these fields
	return n
}

// installations reads the installation and keeps it.
type installations struct {
	*core
	overruling overruling
}

// load reads the installation from Redis.
func (i *installations) load(ctx context.Context) (*installation, error) {
	since := i.cache.now(redisdb.KeyInstallation)
	m, err := i.db.Hash(ctx, redisdb.KeyInstallation)
	if err != nil {
		return nil, unavailable("reading the installation", err)
	}
	return i.keep(m, since)
}

// keep decodes an installation that was read since into the cache.
func (i *installations) keep(m map[string]string, since epoch) (*installation, error) {
	in, err := parseInstallation(m)
	if err != nil {
		return nil, unavailable("reading the installation", err)
	}
	in.read = i.now()
	i.overruling.keep(in)
	i.cache.fillInstallation(in, since)
	return in, nil
}
