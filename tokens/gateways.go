// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Every gateway says in Redis that it is there, so that each can list all: which
// version it runs, which keys it has, and how late it hears of changes. An entry
// that was not renewed for a while belongs to a gateway that ended without notice.
const (
	// announceEvery is how often a gateway renews its entry.
	announceEvery = 10 * time.Second
	// silentAfter is when an entry counts as silent.
	silentAfter = 3 * announceEvery
	// goneAfter is when an entry is removed, by any gateway.
	goneAfter = 10 * time.Minute
	// maxGateways bounds what is read and shown.
	maxGateways = 1000
)

// Gateway is one gateway of the installation, as it describes itself.
type Gateway struct {
	// ID is random, and another one after each start.
	ID string `json:"id"`
	// Host is the name of its machine or container.
	Host string `json:"host"`
	// Version is that of its program.
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Heard is when it last renewed this entry, by the clock of Redis.
	Heard time.Time `json:"heard"`
	// Silent is true if that is too long ago: it ended without notice, or is cut off.
	Silent bool `json:"silent,omitempty"`
	// Self is true for the gateway that answers.
	Self bool `json:"self,omitempty"`
	// Uses are the ids of the keys it signs, hashes and encrypts with; Keys all that
	// it has, those included.
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

// gateways knows the gateways of the installation.
type gateways struct {
	*core
	keyUse  *keyUse
	version string
}

// announceAll renews this gateway's entry until ctx ends, and then removes it.
func (gs *gateways) announceAll(ctx context.Context) {
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	var ahead time.Duration
	var tidied time.Time
	for {
		if seen, err := gs.announce(ctx, ahead); err == nil {
			ahead = seen
			if time.Since(tidied) > goneAfter {
				_, _ = gs.Gateways(ctx) // it removes entries of gateways that are gone
				tidied = time.Now()
			}
		}
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gs.db.Timeout())
			defer cancel()
			_ = gs.db.RemoveFields(ctx, redisdb.KeyGateways, gs.feed.Node()) // else it is removed later
			return
		case <-tick.C:
		}
	}
}

// announce renews this gateway's entry, and returns how far its clock is ahead of
// that of Redis: by less than half of the time that the answer took, that is 0.
func (gs *gateways) announce(ctx context.Context, ahead time.Duration) (time.Duration, error) {
	g := gs.Self()
	g.ClockAheadSeconds = ahead.Seconds()
	document, err := json.Marshal(g)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	text, err := gs.db.Eval(ctx, announceScript, redisdb.KeyGateways, gs.feed.Node(), document).Text()
	if err != nil {
		return 0, unavailable("announcing this gateway", err)
	}
	took := time.Since(began)
	micros, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, unavailable("announcing this gateway", err)
	}
	off := began.Add(took / 2).Sub(time.UnixMicro(micros))
	if off.Abs() <= took/2 {
		off = 0
	}
	return off.Round(time.Millisecond), nil
}

// Self describes this gateway, without asking Redis.
func (gs *gateways) Self() Gateway {
	g := Gateway{
		ID: gs.feed.Node(), Host: hostname(), Version: gs.version, Started: gs.feed.Started().UTC().Truncate(time.Millisecond),
		Self: true, Uses: gs.keyUse.used(), Keys: slices.Clone(gs.signing.IDs()), Fresh: gs.feed.Fresh(),
	}
	for _, k := range gs.keys.Keys {
		if !slices.Contains(g.Keys, k.ID) {
			g.Keys = append(g.Keys, k.ID)
		}
	}
	if lag, ok := gs.feed.Lag(); ok {
		seconds := lag.Round(time.Millisecond).Seconds()
		g.LagSeconds = &seconds
	}
	return g
}

// used are the ids of the keys that this gateway makes things with.
func (k *keyUse) used() []string {
	return slices.Compact([]string{k.keys.First().ID, k.signing.KeyID()})
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// Gateways returns the gateways of the installation that were heard of lately, the
// one that was started first in front, and this one among them. The error is
// ErrUnavailable.
func (gs *gateways) Gateways(ctx context.Context) ([]Gateway, error) {
	entries, now, err := gs.db.HashNow(ctx, redisdb.KeyGateways)
	if err != nil {
		return nil, unavailable("listing the gateways", err)
	}
	list := []Gateway{gs.Self()}
	list[0].Heard = now.UTC().Truncate(time.Second)
	var gone []string
	for id, text := range entries {
		if id == gs.feed.Node() {
			continue
		}
		heard, document, _ := strings.Cut(text, " ")
		micros, err := strconv.ParseInt(heard, 10, 64)
		var g Gateway
		if err != nil || json.Unmarshal([]byte(document), &g) != nil || now.Sub(time.UnixMicro(micros)) > goneAfter {
			gone = append(gone, id)
			continue
		}
		g.ID, g.Self, g.Heard = id, false, time.UnixMicro(micros).UTC().Truncate(time.Second)
		g.Silent = now.Sub(time.UnixMicro(micros)) > silentAfter
		if len(list) < maxGateways {
			list = append(list, g)
		}
	}
	if len(gone) > 0 {
		_ = gs.db.RemoveFields(ctx, redisdb.KeyGateways, gone...) // the next one who looks does it
	}
	slices.SortFunc(list, func(x, y Gateway) int {
		return cmp.Or(x.Started.Compare(y.Started), cmp.Compare(x.ID, y.ID))
	})
	return list, nil
}
