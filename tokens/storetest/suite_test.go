// SPDX-License-Identifier: MIT

package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/embedded"
)

// runSuite runs the suite.
func runSuite(t *testing.T, open Opener) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Opener){
		"Applications":             testApplications,
		"Conflicts":                testConflicts,
		"Aliases":                  testAliases,
		"Lists":                    testLists,
		"Secrets":                  testSecrets,
		"Users":                    testUsers,
		"Tokens":                   testTokens,
		"Revocations":              testRevocations,
		"TwoNodes":                 testTwoNodes,
		"Refresh":                  testRefresh,
		"RefreshRace":              testRefreshRace,
		"RefreshReuse":             testRefreshReuse,
		"MeetTokens":               testMeetTokens,
		"SecretRotated":            testSecretRotated,
		"Idempotency":              testIdempotency,
		"IdempotencyRace":          testIdempotencyRace,
		"IdempotencySecretRotated": testIdempotencySecretRotated,
		"IdempotencyOutage":        testIdempotencyOutage,
		"AnotherSecret":            testAnotherSecret,
		"Limits":                   testLimits,
		"LimitsOutage":             testLimitsOutage,
		"Quota":                    testQuota,
		"QuotaRace":                testQuotaRace,
		"Slugs":                    testSlugs,
		"Adopt":                    testAdopt,
		"AdoptRace":                testAdoptRace,
		"AdoptRemoved":             testAdoptRemoved,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

// newStore opens an empty embedded store.
func newStore(t *testing.T) *tokens.Store {
	t.Helper()
	s, err := embedded.Open()
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// clock is a clock that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

// Now implements [tokens.Options].Now.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestEmbeddedStore(t *testing.T) {
	server, err := embedded.Start()
	require.NoError(t, err)
	t.Cleanup(server.Close)
	runSuite(t, func(t *testing.T) *tokens.Store {
		s, err := server.Connect()
		require.NoError(t, err)
		return s
	})
}

func TestStandaloneStore(t *testing.T) {
	server := redistest.Standalone(t)
	runSuite(t, opener(tokens.RedisOptions{URL: server.URL()}))
}

// In a Cluster, go-redis also asks for the servers and their commands.
func TestClusterStore(t *testing.T) {
	cluster := redistest.Cluster(t)
	for _, n := range cluster.Nodes { // forget how the cluster was made
		require.NoError(t, n.Client().ConfigResetStat(t.Context()).Err())
	}
	runSuite(t, opener(tokens.RedisOptions{Addresses: cluster.Addrs(), Cluster: true}))
	require.Subset(t, []string{"HELLO", "CLUSTER|SLOTS", "COMMAND", "CONFIG|SET", "CONFIG|RESETSTAT"}, unlisted(t, clusterFeedCommands, cluster.Nodes...))
}

func TestSentinelStore(t *testing.T) {
	group := redistest.Sentinel(t)
	runSuite(t, opener(tokens.RedisOptions{Addresses: group.Addrs(), MasterName: redistest.MasterName, WaitReplicas: 1}))
}

// opener opens a store with a timeout for busy machines.
func opener(o tokens.RedisOptions) Opener {
	o.Timeout = 10 * time.Second
	return func(t *testing.T) *tokens.Store {
		s, err := tokens.OpenRedis(o)
		require.NoError(t, err)
		return s
	}
}
