package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meet-gateway/meet-gateway/tests/redistest"

	"github.com/stretchr/testify/require"
)

// sentinelStore is the store line for a group watched by Sentinels.
func sentinelStore(s *redistest.SentinelServers) func(int) string {
	return func(int) string {
		return fmt.Sprintf("store redis {\naddress %s\nmaster_name %s\ntimeout 2s\n}", strings.Join(s.Addrs(), " "), redistest.MasterName)
	}
}

// TestFailover: under load, the replica becomes the primary by order and by
// accident.
func TestFailover(t *testing.T) {
	t.Parallel()
	redis := redistest.Sentinel(t)
	c := startCluster(t, settings{store: sentinelStore(redis)})
	l := newLedger(c.staleness)
	o := startLoad(t, c, l, c.nodes[0].addApplication(t, ""), 4, 2)
	o.more(t, 100)

	for _, row := range []struct {
		name string
		// fault returns when there is a new primary; mend brings the old one back.
		fault func(primary *redistest.Server)
		mend  func(primary *redistest.Server)
	}{
		{"ordered", func(*redistest.Server) { redis.Failover(t) }, func(*redistest.Server) {}},
		{
			"primary killed",
			func(primary *redistest.Server) {
				primary.Kill(t)
				redis.AwaitFailover(t, primary)
			},
			func(primary *redistest.Server) { primary.Start(t) },
		},
		{
			"primary silent",
			func(primary *redistest.Server) {
				primary.Pause(t)
				redis.AwaitFailover(t, primary)
			},
			func(primary *redistest.Server) { primary.Resume(t) },
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			primary := redis.Master(t)
			over := l.begin(t.Name(), nil, storeAway)
			row.fault(primary)
			o.recovered(t)
			row.mend(primary)
			redis.AwaitReplica(t)
			o.recovered(t)
			over()
			o.more(t, 100)
			o.audit()
		})
	}
	o.end()
	o.checkCreates(t)
	l.report(t)
}

// TestSlotMove: slots of a Redis Cluster move while they are used.
func TestSlotMove(t *testing.T) {
	t.Parallel()
	redis := redistest.Cluster(t)
	c := startCluster(t, settings{store: func(int) string {
		return fmt.Sprintf("store redis {\naddress %s\ncluster\ntimeout 2s\n}", strings.Join(redis.Addrs(), " "))
	}})
	l := newLedger(c.staleness)
	app := c.nodes[0].addApplication(t, "")
	o := startLoad(t, c, l, app, 4, 3)
	o.more(t, 100)

	over := l.begin(t.Name(), nil, storeAway)
	// The slots of the application and of all changes are in use all the time.
	for _, key := range []string{"mg1:a:" + app.ID, "mg1:feed", "mg1:inst"} {
		slot := redis.Slot(t, key)
		move := redis.BeginSlotMove(t, slot)
		o.more(t, 50)
		move.MoveKeys(t, 1)
		o.more(t, 50)
		move.Finish(t)
		o.more(t, 50)
	}
	// Those of tokens and users.
	moved := 0
	for _, node := range redis.Nodes {
		for _, key := range node.Client().Keys(t.Context(), "mg1:[tu]:*").Val() {
			if moved++; moved > 10 {
				break
			}
			redis.MoveSlot(t, redis.Slot(t, key))
		}
	}
	require.Positive(t, moved)
	o.recovered(t)
	over()
	o.more(t, 100)
	o.audit()
	o.end()
	o.checkCreates(t)
	l.report(t)
	require.Zero(t, l.counts["refused with 503 in a fault"], "redirections are followed")
}
