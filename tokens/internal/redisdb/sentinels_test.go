// SPDX-License-Identifier: MIT

package redisdb

import (
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// fakeSentinel answers like a Sentinel that knows the address. epoch is the config epoch
// plus 1, as in primary; if it is negative, the Sentinel reports none. With an empty
// address it does not know the group.
func fakeSentinel(t *testing.T, addr string, epoch int) string {
	t.Helper()
	s, err := server.NewServer("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(s.Close)
	require.NoError(t, s.Register("SENTINEL", func(c *server.Peer, _ string, args []string) {
		switch {
		case addr == "" && args[0] == "master":
			c.WriteError("ERR No such master with that name")
		case addr == "":
			c.WriteNull()
		case args[0] == "master" && epoch < 0:
			c.WriteError("NOPERM")
		case args[0] == "master":
			c.WriteStrings([]string{"name", args[1], "config-epoch", strconv.Itoa(epoch - 1), "num-slaves", "2"})
		default:
			c.WriteStrings([]string{addr, "6379"})
		}
	}))
	return s.Addr().String()
}

func TestSentinels_Round(t *testing.T) {
	type says struct {
		addr  string
		epoch int
	}
	known := primary{"known:6379", 5, 4}
	gone := says{"gone", 0} // nothing listens there
	const replicas = 3      // the number that the Sentinels report, plus 1
	for name, c := range map[string]struct {
		sentinels []says
		want      primary
		quorum    bool
		err       error
	}{
		"all agree":                              {[]says{{"a", 6}, {"a", 6}, {"a", 6}}, primary{"a:6379", 6, replicas}, true, nil},
		"a majority":                             {[]says{{"a", 6}, {"a", 6}, gone}, primary{"a:6379", 6, replicas}, true, nil},
		"one newer answer, first":                {[]says{{"b", 7}, {"a", 6}, gone}, primary{"b:6379", 7, replicas}, true, nil},
		"one newer answer, last":                 {[]says{{"a", 6}, {"a", 6}, {"b", 7}}, primary{"b:6379", 7, replicas}, true, nil},
		"a majority with an older epoch":         {[]says{{"a", 4}, {"a", 4}, gone}, primary{"known:6379", 5, replicas}, true, nil},
		"an older majority and one newer answer": {[]says{{"a", 4}, {"a", 4}, {"b", 6}}, primary{"b:6379", 6, replicas}, true, nil},
		"all with an older epoch":                {[]says{{"a", 1}, {"a", 1}, {"a", 1}}, primary{"known:6379", 5, replicas}, true, nil},
		"a newer minority":                       {[]says{{"b", 7}, gone, gone}, primary{"b:6379", 7, 4}, false, nil},
		"an older minority":                      {[]says{{"b", 4}, gone, gone}, known, false, nil},
		"a minority without an epoch":            {[]says{{"b", -1}, gone, gone}, known, false, nil},
		"most do not know the group":             {[]says{{"", 0}, {"a", 6}, {"", 0}}, primary{"a:6379", 6, 4}, false, nil},
		"no epochs: votes":                       {[]says{{"a", -1}, {"b", -1}, {"a", -1}}, primary{"a:6379", 0, 0}, true, nil},
		"no epochs: a tie":                       {[]says{{"a", -1}, {"b", -1}, gone}, primary{}, true, ErrUndecided},
		"no answer":                              {[]says{gone, gone, gone}, primary{}, false, ErrNoSentinel},
		"none knows the group":                   {[]says{{"", 0}, {"", 0}, {"", 0}}, primary{}, false, ErrNoSentinel},
		"one new Sentinel":                       {[]says{{"a", 1}}, primary{"known:6379", 5, replicas}, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			u := &redis.UniversalOptions{MasterName: "group", DialTimeout: 20 * time.Second}
			for _, s := range c.sentinels {
				addr := "127.0.0.1:1" // nothing listens on port 1
				if s != gone {
					addr = fakeSentinel(t, s.addr, s.epoch)
				}
				u.Addrs = append(u.Addrs, addr)
			}
			s := newSentinels(u, newConnections(time.Second, nil))
			defer func() { require.NoError(t, s.close()) }()
			s.primary = known
			got, quorum, err := s.round(t.Context())
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.want, got)
			require.Equal(t, c.quorum, quorum)
		})
	}
}

// A silent Sentinel delays the first round only. It is still asked, and counts again as
// soon as it answers.
func TestSentinels_SilentSentinel(t *testing.T) {
	answer, asked := make(chan struct{}), make(chan struct{}, 100)
	mute, err := server.NewServer("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(mute.Close)
	require.NoError(t, mute.Register("SENTINEL", func(c *server.Peer, _ string, args []string) {
		asked <- struct{}{}
		<-answer
		if args[0] == "master" {
			c.WriteStrings([]string{"config-epoch", "6", "num-slaves", "2"})
			return
		}
		c.WriteStrings([]string{"b", "6379"})
	}))
	s := newSentinels(&redis.UniversalOptions{
		MasterName: "group", DialTimeout: 20 * time.Second, ReadTimeout: 20 * time.Second,
		Addrs: []string{mute.Addr().String(), fakeSentinel(t, "a", 6), fakeSentinel(t, "a", 6)},
	}, newConnections(time.Second, nil))
	defer func() { require.NoError(t, s.close()) }()
	silent := s.members[0]
	quorum, err := s.update(t.Context())
	require.NoError(t, err)
	require.True(t, quorum)
	require.Equal(t, "a:6379", s.current().addr)
	<-asked
	require.Eventually(t, silent.silent.Load, 20*time.Second, time.Millisecond)
	close(answer)
	require.Eventually(t, func() bool {
		_, err := s.update(t.Context())
		return err == nil && s.current() == primary{"b:6379", 7, 3}
	}, 20*time.Second, time.Millisecond)
	require.False(t, silent.silent.Load())
}

// New Sentinels count epochs from zero. The gateway accepts the answer of their majority
// after some time.
func TestSentinels_OlderEpochs(t *testing.T) {
	for name, c := range map[string]struct {
		epochs []int
		since  time.Duration
		want   string
	}{
		"at once":                    {[]int{1, 1}, 0, "known:6379"},
		"after some time":            {[]int{1, 1}, acceptOlderAfter, "new:6379"},
		"a minority, after any time": {[]int{1}, acceptOlderAfter, "known:6379"},
		"with a newer epoch":         {[]int{1, 1, 5}, acceptOlderAfter, "new:6379"},
	} {
		t.Run(name, func(t *testing.T) {
			u := &redis.UniversalOptions{MasterName: "group", DialTimeout: 20 * time.Second}
			for _, epoch := range c.epochs {
				u.Addrs = append(u.Addrs, fakeSentinel(t, "new", epoch))
			}
			for len(u.Addrs) < 3 {
				u.Addrs = append(u.Addrs, "127.0.0.1:1")
			}
			s := newSentinels(u, newConnections(time.Second, nil))
			defer func() { require.NoError(t, s.close()) }()
			s.primary = primary{"known:6379", 5, 3}
			if c.since > 0 {
				s.olderSince = time.Now().Add(-c.since)
			}
			got, _, err := s.round(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.want, got.addr)
			require.Equal(t, c.epochs[len(c.epochs)-1] == 5, s.olderSince.IsZero())
		})
	}
}

func requireQuorum(t *testing.T, s *sentinels) {
	t.Helper()
	quorum, err := s.update(t.Context())
	require.NoError(t, err)
	require.True(t, quorum)
}

// Every failover increases the epoch.
func TestSentinels_Failover(t *testing.T) {
	group := redistest.Sentinel(t)
	s := newSentinels(&redis.UniversalOptions{MasterName: redistest.MasterName, DialTimeout: 20 * time.Second, Addrs: group.Addrs()},
		newConnections(time.Second, nil))
	defer func() { require.NoError(t, s.close()) }()
	requireQuorum(t, s)
	before := s.current()
	require.Equal(t, group.Master(t).Addr(), before.addr)
	now := group.Failover(t)
	requireQuorum(t, s)
	require.Equal(t, now.Addr(), s.current().addr)
	require.Greater(t, s.current().epoch, before.epoch)
}

// Connections to a former primary are dropped.
func TestSentinels_DropConnections(t *testing.T) {
	redisServer, err := server.NewServer("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(redisServer.Close)
	conns := newConnections(20*time.Second, nil)
	old, err := conns.dial(t.Context(), "tcp", redisServer.Addr().String())
	require.NoError(t, err)
	s := newSentinels(&redis.UniversalOptions{MasterName: "group", DialTimeout: 20 * time.Second, Addrs: []string{fakeSentinel(t, "a", 6)}}, conns)
	defer func() { require.NoError(t, s.close()) }()
	requireQuorum(t, s)
	require.Empty(t, conns.open)
	_, err = old.Read(make([]byte, 1))
	require.EqualError(t, err, "EOF", "go-redis retries after EOF")
	require.EqualError(t, old.SetReadDeadline(time.Time{}), "EOF")
}

// Each server is verified against its own name, not against the Sentinel in the URL.
func TestSentinels_TLSByURL(t *testing.T) {
	s, err := Open(Options{URL: "rediss://one.example:26379", MasterName: "group"})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.Empty(t, s.conns.tls.ServerName)
	require.Empty(t, s.sentinels.members[0].client.Options().TLSConfig.ServerName)
	one, err := Open(Options{URL: "rediss://one.example:6379"})
	require.NoError(t, err)
	defer func() { require.NoError(t, one.Close()) }()
	require.Equal(t, "one.example", one.conns.tls.ServerName)
}
