package tokens

import (
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// fakeSentinel answers as a Sentinel does that knows the address and the epoch.
// "" is one that does not know the group.
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
			c.WriteStrings([]string{"name", args[1], "config-epoch", strconv.Itoa(epoch)})
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
	known := sentinelAnswer{"known:6379", 5}
	gone := says{"gone", 0} // nobody is there
	for name, c := range map[string]struct {
		sentinels []says
		want      sentinelAnswer
		err       error
	}{
		"all agree":                           {[]says{{"a", 6}, {"a", 6}, {"a", 6}}, sentinelAnswer{"a:6379", 6}, nil},
		"the majority, without waiting":       {[]says{{"a", 6}, {"a", 6}, gone}, sentinelAnswer{"a:6379", 6}, nil},
		"the newest, though it is alone":      {[]says{{"b", 7}, {"a", 6}, gone}, sentinelAnswer{"b:6379", 7}, nil},
		"a majority may be older":             {[]says{{"a", 1}, {"a", 1}, {"a", 1}}, sentinelAnswer{"a:6379", 1}, nil},
		"one alone that is newer":             {[]says{{"b", 7}, gone, gone}, sentinelAnswer{"b:6379", 7}, nil},
		"one alone that is older":             {[]says{{"b", 4}, gone, gone}, known, nil},
		"who does not know the group":         {[]says{{"", 0}, {"a", 6}, {"", 0}}, sentinelAnswer{"a:6379", 6}, nil},
		"no epochs: votes":                    {[]says{{"a", -1}, {"b", -1}, {"a", -1}}, sentinelAnswer{"a:6379", 0}, nil},
		"no epochs: a tie":                    {[]says{{"a", -1}, {"b", -1}, gone}, sentinelAnswer{}, errUndecided},
		"nobody":                              {[]says{gone, gone, gone}, sentinelAnswer{}, errNoSentinel},
		"nobody knows the group":              {[]says{{"", 0}, {"", 0}, {"", 0}}, sentinelAnswer{}, errNoSentinel},
		"the only one is believed when older": {[]says{{"a", 1}}, sentinelAnswer{"a:6379", 1}, nil},
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
			got, err := s.round(t.Context())
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.want, got)
		})
	}
}

// Every failover counts the epoch up that Sentinels tell.
func TestSentinels_Failover(t *testing.T) {
	group := redistest.Sentinel(t)
	s := newSentinels(&redis.UniversalOptions{MasterName: redistest.MasterName, DialTimeout: 20 * time.Second, Addrs: group.Addrs()},
		newConnections(time.Second, nil))
	defer func() { require.NoError(t, s.close()) }()
	require.NoError(t, s.ask(t.Context()))
	before := s.current()
	require.Equal(t, group.Master(t).Addr(), before.addr)
	now := group.Failover(t)
	require.NoError(t, s.ask(t.Context()))
	require.Equal(t, now.Addr(), s.current().addr)
	require.Greater(t, s.current().epoch, before.epoch)
}

// Connections that lead to a former primary are dropped when there is another.
func TestSentinels_DropConnections(t *testing.T) {
	redisServer, err := server.NewServer("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(redisServer.Close)
	conns := newConnections(20*time.Second, nil)
	old, err := conns.dial(t.Context(), "tcp", redisServer.Addr().String())
	require.NoError(t, err)
	s := newSentinels(&redis.UniversalOptions{MasterName: "group", DialTimeout: 20 * time.Second, Addrs: []string{fakeSentinel(t, "a", 6)}}, conns)
	defer func() { require.NoError(t, s.close()) }()
	require.NoError(t, s.ask(t.Context()))
	require.Empty(t, conns.open)
	_, err = old.Read(make([]byte, 1))
	require.EqualError(t, err, "EOF", "go-redis tries again")
	require.EqualError(t, old.SetReadDeadline(time.Time{}), "EOF")
}
