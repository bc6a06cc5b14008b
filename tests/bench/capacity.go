// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// coefficients are the measured costs that the capacity model multiplies. CPU is
// in microseconds, memory in bytes.
type coefficients struct {
	// CPU of the gateway and commands at Redis for one request of a kind.
	HotCPU, NewCPU, ListCPU, CreateCPU, TokenCPU, IdentityCPU, GarbageCPU float64
	HotCommands, NewCommands, TokenCommands, IdentityCommands             float64
	RedisCPU                                                              float64 // per command
	RedisBytesNew, RedisBytesToken                                        float64 // on the network, both ways, per request
	MemoryToken, MemoryUser, MemoryMeetToken                              float64 // in Redis, for each
	MemoryCached                                                          float64 // in the gateway, for each token known
	HeartbeatCommands                                                     float64 // per second and node
	HeartbeatBytes                                                        float64
	ChangeBytes                                                           float64 // per change and node
	ChangeCPU                                                             float64 // of Redis, per change and node
}

// spreadRequests is one check of the cache model: random tokens are used on random nodes.
type spreadRequests struct {
	Nodes, Tokens, Requests int
	Predicted, Measured     float64 // reads of token records
}

// feedStep holds the cost of changes for one number of nodes.
type feedStep struct {
	Nodes     int
	Callers   int     // that make changes at once, spread over the nodes
	Changes   float64 // per second
	Busy      float64 // Redis: share of a core while changes are made
	Idle      float64 // commands per second and node
	IdleBytes float64 // per second and node
	Bytes     float64 // per change and node
	CPU       float64 // of Redis, per change and node, in microseconds
	Lag       float64 // until the last node has received a change, in milliseconds
}

// expectedDistinct returns the expected number of distinct items after k draws from n equally
// likely items.
func expectedDistinct(n, k float64) float64 {
	if n <= 0 {
		return 0
	}
	return n * -math.Expm1(k*math.Log1p(-1/n))
}

// capacity measures the model's remaining coefficients and checks the model.
func (b *bench) capacity(ctx context.Context) error {
	for _, id := range []string{"hot", "new-hs256", "token", "identity", "garbage"} {
		if b.report.Case(id) == nil {
			return fmt.Errorf("the case %s is missing", id)
		}
	}
	c := &b.report.Coefficients
	if err := b.blend(ctx); err != nil {
		return err
	}
	commands := func(id string) float64 { return b.report.Case(id).b(sample.commandsPerRequest) }
	// The mixture has no such requests. Their costs come from ratios, so that they match the
	// machine's speed during the mixture.
	toHot := func(id string) float64 {
		return c.HotCPU * b.report.Case(id).ratios().Median / b.report.Case("hot").ratios().Median
	}
	c.NewCPU, c.GarbageCPU = toHot("new-hs256"), toHot("garbage")
	c.HotCommands, c.NewCommands = commands("hot"), commands("new-hs256")
	c.TokenCommands, c.IdentityCommands = commands("token"), commands("identity")
	c.RedisBytesNew, c.RedisBytesToken = b.report.Case("new-hs256").b(redisBytes), b.report.Case("token").b(redisBytes)
	c.RedisCPU = b.report.Case("token").b(func(s sample) float64 {
		return float64(s.RedisCPU.Nanoseconds()) / 1000 / (s.commandsPerRequest() * float64(s.Requests))
	})
	c.MemoryCached = b.report.perToken(func(m memory) int64 { return m.RSS })
	for _, run := range []func(context.Context) error{b.memory, b.spreads} {
		if err := run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// memory measures the Redis memory of a token and of a user.
func (b *bench) memory(ctx context.Context) error {
	c := &b.report.Coefficients
	var err error
	if c.MemoryMeetToken, _, err = b.redis.memoryUsage(ctx, "mg1:k:", 100); err != nil {
		return err
	}
	const n = 10_000
	grown := func(tokens, users int) (float64, error) {
		before, err := b.redis.counters(ctx)
		if err != nil {
			return 0, err
		}
		p, err := newPlatform(b.lab)
		if err != nil {
			return 0, err
		}
		defer p.close()
		if _, err := p.issue(ctx, tokens, b.clients[:1], users); err != nil {
			return 0, err
		}
		after, err := b.redis.counters(ctx)
		return float64(after.memory - before.memory), err
	}
	if _, err := grown(1, 1); err != nil { // opens connections and loads scripts
		return err
	}
	known, err := grown(n, 1)
	if err != nil {
		return err
	}
	c.MemoryToken = known / n
	if c.MemoryUser, _, err = b.redis.memoryUsage(ctx, "mg1:u:", 100); err != nil {
		return err
	}
	index, _, err := b.redis.memoryUsage(ctx, "mg1:m:", 100)
	c.MemoryUser += index
	return err
}

// nodes starts n gateways without HTTP servers, which suffice to check the model of caches and
// the feed.
func (b *bench) nodes(n int) ([]*platform, func(), error) {
	var nodes []*platform
	closeAll := func() {
		for _, p := range nodes {
			p.close()
		}
	}
	for range n {
		p, err := newPlatform(b.lab)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		nodes = append(nodes, p)
	}
	deadline := time.Now().Add(30 * time.Second)
	for _, p := range nodes {
		for !p.authority.Fresh() {
			if time.Now().After(deadline) {
				closeAll()
				return nil, nil, fmt.Errorf("a node receives nothing from Redis")
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nodes, closeAll, nil
}

// spreads checks how often nodes read a token's record from Redis.
func (b *bench) spreads(ctx context.Context) error {
	requests := 20_000
	if b.s.Quick {
		requests = 5_000
	}
	issued, err := b.platform.issue(ctx, 2_000, b.clients, 2_000)
	if err != nil {
		return err
	}
	for _, n := range []int{1, 2, 4, 8} {
		nodes, closeAll, err := b.nodes(n)
		if err != nil {
			return err
		}
		before, err := b.records(ctx)
		if err == nil {
			err = b.roam(ctx, nodes, issued, requests)
		}
		after, err2 := b.records(ctx)
		closeAll()
		if err != nil || err2 != nil {
			return fmt.Errorf("spreading requests: %w, %w", err, err2)
		}
		s := spreadRequests{
			Nodes: n, Tokens: len(issued), Requests: requests,
			Predicted: expectedDistinct(float64(n*len(issued)), float64(requests)), Measured: float64(after - before),
		}
		fmt.Fprintf(os.Stderr, "%-12s %7d nodes   predicted %.0f  measured %.0f look-ups\n", "caches", n, s.Predicted, s.Measured)
		b.report.Spreads = append(b.report.Spreads, s)
	}
	return nil
}

// records counts the reads of token records in Redis. Only heartbeats read other single values,
// and they do so in scripts.
func (b *bench) records(ctx context.Context) (int64, error) {
	c, err := b.redis.counters(ctx)
	return c.commands["get"] - c.commands["evalsha"], err
}

// roam verifies tokens drawn at random at nodes drawn at random.
func (b *bench) roam(ctx context.Context, nodes []*platform, issued []*tokens.Token, requests int) error {
	draw := rand.New(rand.NewPCG(1, 2)) // the same draws every time
	for range requests {
		_, err := nodes[draw.IntN(len(nodes))].authority.Verify(ctx, issued[draw.IntN(len(issued))].Value)
		if err != nil {
			return err
		}
	}
	return nil
}

// feeds measures the cost of a change in Redis for an increasing number of nodes, and the delay
// of the last node.
func (b *bench) feeds(ctx context.Context) error {
	steps, changes := []feedStep{{Nodes: 1}, {Nodes: 4}, {Nodes: 16}, {Nodes: 64}}, 500
	flood := feedStep{Nodes: 64, Callers: 1024}
	if b.s.Quick {
		steps, changes, flood = []feedStep{{Nodes: 1}, {Nodes: 8}}, 100, feedStep{Nodes: 8, Callers: 128}
	}
	for _, s := range steps {
		s.Callers = 1
		if err := b.noteFeed(ctx, &b.report.Feeds, s, changes); err != nil {
			return err
		}
	}
	for _, callers := range []int{1, flood.Callers / 16, flood.Callers} {
		if err := b.noteFeed(ctx, &b.report.Floods, feedStep{Nodes: flood.Nodes, Callers: callers}, 4*changes); err != nil {
			return err
		}
	}
	c := &b.report.Coefficients
	last := b.report.Feeds[len(b.report.Feeds)-1]
	c.HeartbeatCommands, c.HeartbeatBytes, c.ChangeBytes, c.ChangeCPU = last.Idle, last.IdleBytes, last.Bytes, last.CPU
	return nil
}

// noteFeed measures a step and adds it to the report.
func (b *bench) noteFeed(ctx context.Context, to *[]feedStep, s feedStep, changes int) error {
	if err := b.report.Speeds.note("feed"); err != nil {
		return err
	}
	if err := b.feed(ctx, &s, changes); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%-12s %7d nodes   idle %.1f commands/s  %.0f B, %.2f µs per change and node  last after %.1f ms  %d callers: %.0f changes/s, %.0f %% of a core\n",
		"feed", s.Nodes, s.Idle, s.Bytes, s.CPU, s.Lag, s.Callers, s.Changes, 100*s.Busy)
	*to = append(*to, s)
	return nil
}

// feedIdle measures the Redis commands and bytes of idle gateways.
func (b *bench) feedIdle(ctx context.Context, s *feedStep) error {
	const idle = 3 * time.Second
	before, err := b.state(ctx, nil)
	if err != nil {
		return err
	}
	time.Sleep(idle)
	rested, err := b.state(ctx, nil)
	if err != nil {
		return err
	}
	asked := rested.redis.since(before.redis)
	perNode := float64(s.Nodes) * idle.Seconds()
	s.Idle = float64(asked.total()) / perNode
	s.IdleBytes = float64(asked.in+asked.out) / perNode
	return nil
}

// feed measures revocations by the callers of a step.
func (b *bench) feed(ctx context.Context, s *feedStep, changes int) error {
	n := s.Nodes
	issued, err := b.platform.issue(ctx, changes, b.clients, changes)
	if err != nil {
		return err
	}
	nodes, closeAll, err := b.nodes(n)
	if err != nil {
		return err
	}
	defer closeAll()

	if err := b.feedIdle(ctx, s); err != nil {
		return err
	}
	// Every node caches the token that is revoked last.
	last := issued[len(issued)-1]
	for _, p := range nodes {
		if _, err := p.authority.Verify(ctx, last.Value); err != nil {
			return err
		}
	}
	before, err := b.state(ctx, nil)
	if err != nil {
		return err
	}
	began := time.Now()
	var callers errgroup.Group
	for c := range s.Callers {
		callers.Go(func() error {
			for i := c; i < len(issued); i += s.Callers {
				if err := nodes[c%n].authority.RevokeToken(ctx, issued[i].ID); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := callers.Wait(); err != nil {
		return err
	}
	done := time.Now()
	var wait sync.WaitGroup
	for _, p := range nodes {
		wait.Go(func() {
			for p.authority.Fresh() {
				if _, err := p.authority.Verify(ctx, last.Value); err != nil {
					return
				}
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	wait.Wait()
	s.Lag = float64(time.Since(done).Microseconds()) / 1000
	after, err := b.state(ctx, nil)
	if err != nil {
		return err
	}
	asked := after.redis.since(before.redis)
	took := time.Since(began).Seconds()
	s.Changes = float64(changes) / done.Sub(began).Seconds()
	s.Busy = (after.redisCPU - before.redisCPU).Seconds() / done.Sub(began).Seconds()
	s.Bytes = (float64(asked.out) - s.IdleBytes*float64(n)*took) / float64(n*changes)
	s.CPU = float64((after.redisCPU - before.redisCPU).Nanoseconds()) / 1000 / float64(n*changes)
	return nil
}

// blended compares a mixture of all kinds of requests with the sum of the kinds, measured in the
// same seconds.
type blended struct {
	// CPU is the ratio of measured to predicted CPU over the rounds.
	CPU                                 spread
	PredictedCPU, MeasuredCPU           float64 // microseconds per request, medians
	PredictedCommands, MeasuredCommands float64 // per request
}

// mixtureParts are the shares of the kinds of requests.
var mixtureParts = []struct {
	kind string
	part float64
}{{"read", 0.90}, {"list", 0.05}, {"create", 0.03}, {"token", 0.01}, {"identity", 0.01}}

// blend measures the mixture and each kind by itself, in turn. The speed of the machine changes
// within minutes, so the mixture is compared with the sum of the same round, not with earlier
// costs.
func (b *bench) blend(ctx context.Context) error {
	all, kinds, err := b.mixture(ctx)
	if err != nil {
		return err
	}
	whole := on(all, b.gate)
	parts := make([]*target, len(mixtureParts))
	for i, p := range mixtureParts {
		parts[i] = on(kinds[p.kind], b.gate)
	}
	if err := b.warm(ctx, append([]*target{whole}, parts...)...); err != nil {
		return err
	}
	var ratios, measured, predicted, commands, predictedCommands []float64
	costs := map[string][]float64{}
	for range b.s.fewer() {
		if err := b.report.Speeds.note("blend"); err != nil {
			return err
		}
		before, err := b.measure(ctx, whole, b.s.Run)
		if err != nil {
			return err
		}
		var cpu, calls float64
		for i, p := range mixtureParts {
			s, err := b.measure(ctx, parts[i], b.s.Run)
			if err != nil {
				return err
			}
			cpu += p.part * s.cpuPerRequest()
			costs[p.kind] = append(costs[p.kind], s.cpuPerRequest())
			calls += p.part * s.commandsPerRequest()
		}
		after, err := b.measure(ctx, whole, b.s.Run)
		if err != nil {
			return err
		}
		mixed := (before.cpuPerRequest() + after.cpuPerRequest()) / 2
		ratios, measured, predicted = append(ratios, mixed/cpu), append(measured, mixed), append(predicted, cpu)
		commands = append(commands, (before.commandsPerRequest()+after.commandsPerRequest())/2)
		predictedCommands = append(predictedCommands, calls)
	}
	median := func(of []float64) float64 { return spreadOf(of, itself).Median }
	b.report.Blend = blended{
		CPU: spreadOf(ratios, itself), PredictedCPU: median(predicted), MeasuredCPU: median(measured),
		PredictedCommands: median(predictedCommands), MeasuredCommands: median(commands),
	}
	c := &b.report.Coefficients
	c.HotCPU, c.ListCPU, c.CreateCPU = median(costs["read"]), median(costs["list"]), median(costs["create"])
	c.TokenCPU, c.IdentityCPU = median(costs["token"]), median(costs["identity"])
	m := b.report.Blend
	fmt.Fprintf(os.Stderr, "%-28s predicted %.1f µs, %.2f commands  measured %.1f µs, %.2f commands  ratio %s\n", "blend", m.PredictedCPU, m.PredictedCommands, m.MeasuredCPU, m.MeasuredCommands, m.CPU)
	return nil
}

// mixture returns the load of blend, as a whole and by kind.
func (b *bench) mixture(ctx context.Context) (all *load, kinds map[string]*load, err error) {
	issued, err := b.platform.issue(ctx, 1_000, b.clients, 1_000)
	if err != nil {
		return nil, nil, err
	}
	all, kinds = &load{connections: connections}, map[string]*load{}
	for _, p := range mixtureParts {
		kinds[p.kind] = &load{connections: connections}
	}
	for i, t := range issued {
		r, kind := read(t.Value), "read"
		switch {
		case i%100 < 5:
			r.path, kind = listPath, "list"
		case i%100 < 8:
			r.method, r.path, r.contentType, r.body, kind = "POST", listPath, "application/json", `{"access_level":"trusted"}`, "create"
		case i%100 == 8:
			r, kind = b.tokenRequest(b.clients[i%10], string(mail(i))), "token"
		case i%100 == 9:
			r.path, kind = "/identity", "identity"
		}
		all.requests = append(all.requests, r)
		kinds[kind].requests = append(kinds[kind].requests, r)
	}
	return all, kinds, nil
}
