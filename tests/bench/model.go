// SPDX-License-Identifier: MIT

package main

import "math"

// Assumptions of the capacity model. docs/scaling.md lists them.
const (
	nodeCores       = 8
	nodeUtilisation = 0.6
	tokenLifetime   = 3600.0 // seconds
	tokensPerUser   = 2.0
	shardMemory     = 16e9 // bytes of data on one Redis shard
	redisBusy       = 0.5  // of the one core that a shard's commands run on
	changesPerToken = 0.01 // revocations and changes for each token issued
	readPart        = 0.95
)

// demand is a planned load.
type demand struct {
	Requests float64 // per second
	Tokens   float64 // live
}

// plan is the size of the installation for a demand.
type plan struct {
	demand
	// Sticky means that the load balancer sends a token to one node.
	Sticky bool
	Nodes  float64
	// Misses is the share of requests whose token the node has not cached.
	Misses float64
	// CacheEntries is the number of tokens that each node caches.
	CacheEntries, CacheMemory float64
	Commands                  float64 // at Redis, per second
	RedisMemory               float64
	Shards                    float64
	ShardsBy                  string
	Feed                      float64 // bytes per second out of Redis
	FeedChanges               float64 // per second
	FeedCPU                   float64 // of the one core that publishing runs on
}

// model turns coefficients into plans.
type model struct {
	*report
	C     coefficients
	Plans []plan
	Bends []bend
}

// bend is the number of nodes that the feed supports at a rate of changes.
type bend struct{ Changes, Nodes float64 }

func newModel(r *report) *model {
	m := &model{report: r, C: r.Coefficients}
	for _, d := range []demand{{1e3, 1e5}, {1e4, 1e6}, {1e5, 1e7}, {1e6, 1e8}} {
		m.Plans = append(m.Plans, m.plan(d, false), m.plan(d, true))
	}
	for _, changes := range []float64{1, 10, 100, 1000} {
		if m.C.ChangeCPU > 0 {
			m.Bends = append(m.Bends, bend{changes, math.Floor(redisBusy * 1e6 / (changes*m.C.ChangeCPU + m.C.HeartbeatCommands*m.C.RedisCPU))})
		}
	}
	return m
}

// plan iterates over the number of nodes: it determines the share of cache misses, which
// determines the CPU and with it the number of nodes.
func (m *model) plan(d demand, sticky bool) plan {
	c := m.C
	p := plan{demand: d, Sticky: sticky, Nodes: 2}
	issued := d.Tokens / tokenLifetime
	for range 50 {
		perToken := d.Requests / d.Tokens * tokenLifetime // requests for a token in its life
		places := p.Nodes
		if sticky {
			places = 1
		}
		p.Misses = min(expectedDistinct(places, perToken)/perToken, 1)
		hot, fresh := c.HotCPU, max(c.NewCPU, c.HotCPU)
		read := (1-p.Misses)*hot + p.Misses*fresh
		cores := (d.Requests*(readPart*read+(1-readPart)*c.CreateCPU) + issued*c.TokenCPU) / 1e6
		nodes := max(math.Ceil(cores/(nodeCores*nodeUtilisation)), 2)
		if nodes == p.Nodes {
			break
		}
		p.Nodes = nodes
	}
	p.CacheEntries = d.Tokens * expectedDistinct(p.Nodes, d.Requests/d.Tokens*tokenLifetime) / p.Nodes
	if sticky {
		p.CacheEntries = d.Tokens / p.Nodes
	}
	p.CacheMemory = p.CacheEntries * c.MemoryCached
	p.Commands = d.Requests*p.Misses*max(c.NewCommands-c.HotCommands, 0) + issued*c.TokenCommands + p.Nodes*c.HeartbeatCommands
	users := d.Tokens / tokensPerUser
	p.RedisMemory = d.Tokens*c.MemoryToken + users*(c.MemoryUser+c.MemoryMeetToken)
	byMemory := math.Ceil(p.RedisMemory / shardMemory)
	byCommands := math.Ceil(p.Commands * c.RedisCPU / (redisBusy * 1e6))
	p.Shards, p.ShardsBy = max(byMemory, 1), "memory"
	if byCommands > p.Shards {
		p.Shards, p.ShardsBy = byCommands, "commands"
	}
	p.FeedChanges = issued * changesPerToken
	p.Feed = p.Nodes * (p.FeedChanges*c.ChangeBytes + c.HeartbeatBytes)
	p.FeedCPU = p.Nodes * p.FeedChanges * c.ChangeCPU / 1e6
	return p
}
