// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/clientids"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// actor performs operations at its own gateway. Each command about a key of the schedule
// waits for the schedule.
type actor struct {
	a     *Authority
	ready chan struct{}
	step  chan bool // false stops the gateway, before or after the command
	dead  bool
	after bool // it stops after the command
}

type actorKey struct{}

var errDead = errors.New("the gateway has stopped")

// schedule is a hook with which a test orders the commands of its actors. It holds the
// prefixes of the keys that it applies to.
type schedule []string

func (schedule) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (schedule) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (s schedule) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		me, _ := ctx.Value(actorKey{}).(*actor)
		if me == nil || !s.isAbout(cmd) {
			return next(ctx, cmd)
		}
		if !me.dead {
			me.ready <- struct{}{}
			me.dead = !<-me.step
			if !me.dead || me.after {
				err := next(ctx, cmd)
				if !me.dead {
					return err
				}
			}
		}
		cmd.SetErr(errDead)
		return errDead
	}
}

func (s schedule) isAbout(cmd redis.Cmder) bool {
	return slices.ContainsFunc(cmd.Args(), func(arg any) bool {
		text, _ := arg.(string)
		return slices.ContainsFunc(s, func(prefix string) bool { return strings.HasPrefix(text, prefix) })
	})
}

// drive runs the actors concurrently, one command at a time in random order, and sometimes
// stops one of them. It calls check before each command and returns early if check fails.
func drive(ctx context.Context, actors []*actor, random *rand.Rand, act func(context.Context, *actor, *rand.Rand), check func() bool) {
	done := make([]chan struct{}, len(actors))
	var running []int
	for i, me := range actors {
		me.dead, me.after = false, random.IntN(2) == 0
		own := rand.New(rand.NewPCG(random.Uint64(), 12))
		ctx := context.WithValue(ctx, actorKey{}, me)
		done[i] = make(chan struct{})
		running = append(running, i)
		go func() {
			defer close(done[i])
			act(ctx, me, own)
		}()
	}
	waiting := map[int]bool{}
	for len(running) > 0 {
		// Each actor waits for a step or has finished, so the result does not depend on the speed
		// of the machine.
		for _, i := range slices.Clone(running) {
			if waiting[i] {
				continue
			}
			select {
			case <-actors[i].ready:
				waiting[i] = true
			case <-done[i]:
				running = slices.DeleteFunc(running, func(j int) bool { return i == j })
			}
		}
		if !check() || len(running) == 0 {
			break
		}
		next := running[random.IntN(len(running))]
		waiting[next] = false
		actors[next].step <- random.IntN(30) != 0
	}
	for _, i := range running { // left after a failed check
		if waiting[i] {
			actors[i].step <- false
		}
		<-done[i]
	}
}

// newActor starts an actor at its own gateway.
func newActor(t *testing.T, server *miniredis.Miniredis, s schedule, change ...func(*Options)) *actor {
	t.Helper()
	a, _ := testNode(t, server, change...)
	a.db.Client().AddHook(s)
	return &actor{a: a, ready: make(chan struct{}), step: make(chan bool)}
}

// At every moment, at most one application lists a client id, and each listed client id
// works. This holds for concurrent operations, wherever a gateway stops.
func TestAliases_AlwaysUnique(t *testing.T) {
	server := miniredis.RunT(t)
	var actors []*actor
	for range 3 {
		actors = append(actors, newActor(t, server, schedule{redisdb.KeyApplication(""), redisdb.KeyAlias("")}))
	}
	for seed := range uint64(150) {
		interleave(t, server, actors, rand.New(rand.NewPCG(seed, 11)), fmt.Sprint("seed ", seed))
		if t.Failed() {
			return
		}
	}
}

func interleave(t *testing.T, server *miniredis.Miniredis, actors []*actor, random *rand.Rand, at string) {
	t.Helper()
	var mu sync.Mutex
	var known []string
	prefix := strings.ReplaceAll(at, " ", "-")
	names := []string{prefix + "-x", prefix + "-y"}
	act := func(ctx context.Context, me *actor, own *rand.Rand) {
		for range 3 {
			mu.Lock()
			id := ""
			if len(known) > 0 {
				id = known[own.IntN(len(known))]
			}
			mu.Unlock()
			if made := me.act(ctx, own, id, names); made != nil {
				mu.Lock()
				known = append(known, made.ID)
				mu.Unlock()
			}
		}
	}
	drive(t.Context(), actors, random, act, func() bool {
		if random.IntN(40) == 0 { // all reservations expire
			server.SetTime(time.Now().Add(time.Duration(random.IntN(1000)) * clientids.WantTime))
			server.FastForward(clientids.WantTime + time.Second)
		}
		return checkAliases(t, server, at)
	})
}

// act performs a random operation and returns the application that it created, if any.
func (me *actor) act(ctx context.Context, random *rand.Rand, id string, names []string) *Application {
	aliases := slices.Clone(names[:1+random.IntN(len(names))])
	random.Shuffle(len(aliases), func(i, j int) { aliases[i], aliases[j] = aliases[j], aliases[i] })
	var made *Application
	var err error
	switch kind := random.IntN(8); {
	case id == "" && kind < 5, kind == 0:
		made, _, err = me.a.CreateApplication(ctx, Application{Name: "Created", Active: true, Aliases: aliases})
	case kind == 1:
		made, err = me.a.ImportApplication(ctx, Application{Name: "Imported", Active: true, Aliases: aliases}, ImportedSecret{})
	case kind == 2:
		made, err = me.a.adoption.register(ctx, Application{Name: "Adopted", Active: true, Aliases: aliases[:1]}, aliases[0], "secret")
	case kind == 3:
		_ = me.a.DeleteApplication(ctx, id, 0)
	case kind == 4:
		_, _ = me.a.ConfirmApplication(ctx, id)
	default:
		var version int64
		if app, err := me.a.CurrentApplication(ctx, id); err == nil && random.IntN(2) == 0 {
			version = app.Version // as If-Match does
		}
		if random.IntN(2) == 0 {
			aliases = nil
		}
		_, _ = me.a.UpdateApplication(ctx, id, version, func(n *Application) error { n.Aliases = aliases; return nil })
	}
	if err != nil {
		return nil
	}
	return made
}

// checkAliases checks the records and the index in Redis.
func checkAliases(t *testing.T, server *miniredis.Miniredis, at string) bool {
	t.Helper()
	listed := map[string]string{}
	for _, key := range server.Keys() {
		id, ok := strings.CutPrefix(key, redisdb.KeyApplication(""))
		if !ok {
			continue
		}
		var record applicationRecord
		if document := server.HGet(key, fieldDocument); document == "" || json.Unmarshal([]byte(document), &record) != nil {
			continue
		}
		for _, alias := range record.Aliases {
			if other, twice := listed[alias]; twice {
				t.Errorf("%s: %s is listed by %s and %s", at, alias, other, id)
			}
			listed[alias] = id
			if entry, _ := server.Get(redisdb.KeyAlias(alias)); clientids.Owner(entry) != id {
				t.Errorf("%s: %s lists %s, and the index has %q", at, id, alias, entry)
			}
		}
	}
	return !t.Failed()
}

// Two gateways import the same dump concurrently, and each application is created once.
func TestAliases_ConcurrentImports(t *testing.T) {
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	b, _ := testNode(t, server)
	const n = 60
	var all sync.WaitGroup
	for _, gateway := range []*Authority{a, b} {
		all.Go(func() {
			for i := range n {
				_, err := gateway.ImportApplication(t.Context(), Application{Name: "Imported", Active: true, Aliases: []string{fmt.Sprint("client-", i)}}, ImportedSecret{})
				if err != nil && !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	page, err := a.Applications(t.Context(), ListOptions{Limit: 1000})
	require.NoError(t, err)
	require.Len(t, page.Applications, n)
	for i := range n {
		_, err := b.CurrentApplication(t.Context(), fmt.Sprint("client-", i))
		require.NoError(t, err)
	}
}
