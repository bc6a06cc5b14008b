// SPDX-License-Identifier: MIT

package redistest_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStandalone_KeepsNothingUnlessAsked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want error
	}{
		"by default":            {nil, redis.Nil},
		"with append-only file": {[]string{"--appendonly", "yes", "--appendfsync", "always"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Standalone(t, test.args...)
			set(t, s.Client(), "k", "v")
			s.Stop(t)
			require.False(t, s.Running())
			s.Start(t)
			require.ErrorIs(t, s.Client().Get(t.Context(), "k").Err(), test.want)
		})
	}
}

func TestStandalone_URLCarriesThePassword(t *testing.T) {
	t.Parallel()
	s := redistest.Standalone(t, "--requirepass", "p@ss:word/")
	opts, err := redis.ParseURL(s.URL())
	require.NoError(t, err)
	c := client(t, opts)
	require.NoError(t, c.Ping(t.Context()).Err())
	opts.Password = ""
	require.ErrorContains(t, client(t, opts).Ping(t.Context()).Err(), "NOAUTH")
}

func TestServer_StopAndKillLeaveNoListener(t *testing.T) {
	t.Parallel()
	s := redistest.Standalone(t)
	for name, end := range map[string]func(testing.TB){"stop": s.Stop, "kill": s.Kill} {
		end(t)
		require.False(t, listens(s.Addr()), name)
		end(t) // a second call has no effect
		s.Start(t)
		require.NoError(t, fresh(t, s.URL()).Ping(t.Context()).Err(), name)
	}
}

func TestServer_PausedAcceptsWithoutAnswer(t *testing.T) {
	t.Parallel()
	s := redistest.Standalone(t)
	s.Pause(t)
	requireSilent(t, s.Addr())
	s.Resume(t)
	require.NoError(t, fresh(t, s.URL()).Ping(t.Context()).Err())

	s.Pause(t)
	s.Stop(t) // also works on a paused server
	require.False(t, s.Running())
}

func TestServer_ReadOnlyRefusesWritesAndServesReads(t *testing.T) {
	t.Parallel()
	s := redistest.Standalone(t)
	set(t, s.Client(), "k", "v")
	s.SetReadOnly(t, true)
	require.ErrorContains(t, s.Client().Set(t.Context(), "k", "w", 0).Err(), "READONLY")
	require.Equal(t, "v", s.Client().Get(t.Context(), "k").Val())
	s.SetReadOnly(t, false)
	set(t, s.Client(), "k", "w")
}

func TestServer_RestoredSnapshotLosesLaterWrites(t *testing.T) {
	t.Parallel()
	s := redistest.Standalone(t)
	set(t, s.Client(), "early", "1")
	snapshot := s.SaveSnapshot(t)
	set(t, s.Client(), "late", "1")

	s.RestoreSnapshot(t, snapshot)
	c := fresh(t, s.URL())
	require.NoError(t, c.Get(t.Context(), "early").Err())
	require.ErrorIs(t, c.Get(t.Context(), "late").Err(), redis.Nil)

	s.FlushAll(t)
	require.Zero(t, c.DBSize(t.Context()).Val())
	s.Stop(t)
	s.Start(t)
	require.Zero(t, fresh(t, s.URL()).DBSize(t.Context()).Val(), "a restart must not load the snapshot")
}

func TestServer_FeedsCutRefusedAllowed(t *testing.T) {
	t.Parallel()
	s := redistest.Standalone(t)
	c := fresh(t, s.URL())
	feed := subscribe(t, c)
	s.RefuseFeeds(t)
	_, err := feed.ReceiveTimeout(t.Context(), time.Minute)
	require.Error(t, err, "the subscription must be cut")
	_, err = feed.ReceiveTimeout(t.Context(), time.Minute)
	require.ErrorContains(t, err, "NOPERM")
	require.NoError(t, c.Publish(t.Context(), "feed", "x").Err(), "other commands are served")

	s.AllowFeeds(t)
	subscribe(t, c)
}

func TestCluster_ServesThroughItsURLAndMovesSlots(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	opts, err := redis.ParseClusterURL(s.URL())
	require.NoError(t, err)
	require.Len(t, opts.Addrs, 3)
	c := redis.NewClusterClient(opts)
	t.Cleanup(func() { _ = c.Close() })

	const here, there = "{tag}1", "{tag}2"
	set(t, c, here, "1")
	set(t, c, there, "2")
	slot := s.Slot(t, "{tag}")
	owner := s.Owner(t, slot)

	move := s.BeginSlotMove(t, slot)
	require.Equal(t, 1, move.MoveKeys(t, 1))
	require.ErrorContains(t, owner.Client().MGet(t.Context(), here, there).Err(), "TRYAGAIN")
	require.ErrorContains(t, owner.Client().Get(t.Context(), "{tag}3").Err(), "ASK")
	require.Equal(t, "1", c.Get(t.Context(), here).Val())
	require.Equal(t, "2", c.Get(t.Context(), there).Val())

	move.Finish(t)
	require.NotSame(t, owner, s.Owner(t, slot))
	require.ErrorContains(t, owner.Client().Get(t.Context(), here).Err(), "MOVED")
	require.Equal(t, []any{"1", "2"}, c.MGet(t.Context(), here, there).Val())

	s.MoveSlot(t, slot)
	require.Equal(t, "1", s.Client().Get(t.Context(), here).Val())
	s.FlushAll(t)
	require.ErrorIs(t, c.Get(t.Context(), here).Err(), redis.Nil)
}

func TestCluster_FailsOverByCommandAndAutomatically(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	first := s.Nodes[0]
	second := s.AddReplica(t, first)
	var key string
	for i := 0; key == "" || s.Owner(t, s.Slot(t, key)) != first; i++ {
		key = fmt.Sprint("k", i)
	}
	set(t, s.Client(), key, "v")
	s.Failover(t, second)
	require.Equal(t, "v", second.Client().Get(t.Context(), key).Val())
	s.Failover(t, first)
	first.Kill(t)
	s.AwaitPromotion(t, second)
	require.Equal(t, "v", second.Client().Get(t.Context(), key).Val())
}

func TestSentinel_FailsOverAutomaticallyAndByCommand(t *testing.T) {
	t.Parallel()
	s := redistest.Sentinel(t)
	opts, err := redis.ParseFailoverURL(s.URL())
	require.NoError(t, err)
	require.Equal(t, redistest.MasterName, opts.MasterName)
	first := s.Master(t)
	set(t, s.Client(), "k", "v")
	require.NoError(t, first.Client().Wait(t.Context(), 1, time.Minute).Err())

	first.Kill(t)
	second := s.AwaitFailover(t, first)
	require.NotSame(t, first, second)
	require.Equal(t, "v", second.Client().Get(t.Context(), "k").Val())

	first.Start(t)
	require.Same(t, first, s.Failover(t))
	require.ErrorContains(t, second.Client().Set(t.Context(), "k", "w", 0).Err(), "READONLY")
	set(t, first.Client(), "k", "w")
}

func TestSentinelSecure_FailsOver(t *testing.T) {
	t.Parallel()
	s := redistest.SentinelSecure(t)
	set(t, s.Client(), "k", "v")
	require.NoError(t, s.Master(t).Client().Wait(t.Context(), 1, time.Minute).Err())
	now := s.Failover(t)
	require.Equal(t, "v", now.Client().Get(t.Context(), "k").Val())
	for _, n := range append(s.Sentinels, s.Data...) {
		stranger := redis.NewClient(&redis.Options{Addr: n.Addr(), TLSConfig: n.TLSConfig()})
		require.ErrorContains(t, stranger.Ping(t.Context()).Err(), "NOAUTH")
		require.NoError(t, stranger.Close())
		plain := redis.NewClient(&redis.Options{Addr: n.Addr(), MaxRetries: -1})
		require.Error(t, plain.Ping(t.Context()).Err(), "without TLS")
		require.NoError(t, plain.Close())
	}
}

// A Sentinel that is cut off from the others keeps naming the former master.
func TestSentinel_Deaf(t *testing.T) {
	t.Parallel()
	s := redistest.Sentinel(t)
	deaf := s.Deaf(t)
	former, now, demote := s.Depose(t)
	require.NotSame(t, former, now)
	at := deaf.Client().Do(t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", redistest.MasterName).Val().([]any)
	require.Equal(t, former.Addr(), net.JoinHostPort(at[0].(string), at[1].(string)))
	demote()
}

func TestProxy_CutSilentSlowDropped(t *testing.T) {
	t.Parallel()
	s := redistest.Standalone(t)
	p := redistest.Proxied(t, s)
	require.NotEqual(t, s.Addr(), p.Addr())
	ping := func() error { return fresh(t, p.URL()).Ping(t.Context()).Err() }
	require.NoError(t, ping())

	old, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	defer old.Close()
	p.Cut(t)
	_, err = old.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.False(t, listens(p.Addr()))
	require.NoError(t, s.Client().Ping(t.Context()).Err(), "the server itself has no fault")
	p.Restore(t)
	require.NoError(t, ping())

	p.Silent(t)
	p.Silent(t)
	requireSilent(t, p.Addr())
	p.Restore(t)
	require.NoError(t, ping())

	p.Latency(t, time.Minute)
	requireSilent(t, p.Addr())
	p.Latency(t, time.Millisecond)
	require.NoError(t, ping())

	old, err = net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	defer old.Close()
	p.Drop(t)
	_, err = old.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, ping())
}

func TestProxy_MutedFeedLeavesCommandsAlone(t *testing.T) {
	t.Parallel()
	s := redistest.Standalone(t)
	p := redistest.Proxied(t, s)
	c := fresh(t, p.URL())
	feed := subscribe(t, c)
	require.NoError(t, c.Publish(t.Context(), "feed", "one").Err())
	_, err := feed.ReceiveMessage(t.Context())
	require.NoError(t, err)

	p.MuteFeeds(t)
	require.NoError(t, c.Publish(t.Context(), "feed", "unheard").Err())
	require.NoError(t, c.Ping(t.Context()).Err())
	_, err = feed.ReceiveTimeout(t.Context(), 100*time.Millisecond)
	var timeout net.Error
	require.True(t, errors.As(err, &timeout) && timeout.Timeout(), "got %v", err)

	p.Restore(t)
	_, err = feed.ReceiveTimeout(t.Context(), time.Minute)
	require.Error(t, err, "a feed that has lost a message must be cut")
	again := subscribe(t, c)
	require.NoError(t, c.Publish(t.Context(), "feed", "two").Err())
	m, err := again.ReceiveMessage(t.Context())
	require.NoError(t, err)
	require.Equal(t, "two", m.Payload)
}

// orphanEnv marks the test binary that the test kills.
const orphanEnv = "REDISTEST_ORPHAN"

func TestServer_EndsWithAKilledTestBinary(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends children with their parent")
	}
	if os.Getenv(orphanEnv) != "" {
		fmt.Println(redistest.Standalone(t).Addr())
		select {}
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), orphanEnv+"=1")
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	addr, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	addr = strings.TrimSpace(addr)
	require.True(t, listens(addr))

	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	require.Eventually(t, func() bool { return !listens(addr) }, time.Minute, time.Millisecond)
}

func TestStandalone_MissingRedis(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() { // Fatal ends the goroutine
		defer close(done)
		redistest.Standalone(r)
	}()
	<-done
	require.Contains(t, r.message.Load(), "apt-get install redis-server")
}

// recorder records the message of Fatal.
type recorder struct {
	testing.TB
	message atomic.Value
}

func (r *recorder) Fatal(args ...any) {
	r.message.Store(args[0])
	runtime.Goexit()
}

func set(t *testing.T, c redis.Cmdable, key, value string) {
	t.Helper()
	require.NoError(t, c.Set(t.Context(), key, value, 0).Err())
}

func client(t *testing.T, opts *redis.Options) *redis.Client {
	t.Helper()
	c := redis.NewClient(opts)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fresh returns a new client, because a client waits after a fault before it connects again.
func fresh(t *testing.T, url string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(url)
	require.NoError(t, err)
	return client(t, opts)
}

func subscribe(t *testing.T, c *redis.Client) *redis.PubSub {
	t.Helper()
	feed := c.Subscribe(t.Context(), "feed")
	t.Cleanup(func() { _ = feed.Close() })
	_, err := feed.Receive(t.Context())
	require.NoError(t, err)
	return feed
}

func listens(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// requireSilent sends a command and checks that the server accepts the connection but does not answer.
func requireSilent(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.Copy(conn, strings.NewReader("PING\r\n"))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}
