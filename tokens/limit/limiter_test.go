// SPDX-License-Identifier: MIT

package limit_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	_ "github.com/meet-gateway/meet-gateway/tests/seed" // makes the properties reproducible
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sharedCount is a shared count in memory with a configurable delay.
type sharedCount struct {
	mu     sync.Mutex
	tat    map[limit.Key]time.Time
	debits int
	sum    int
	keys   []limit.Key

	delay time.Duration
	down  bool
}

var errDown = errors.New("down")

func (c *sharedCount) Debit(ctx context.Context, k limit.Key, r limit.Rate, n int) (time.Duration, error) {
	c.mu.Lock()
	delay, down := c.delay, c.down
	c.debits++
	c.sum += n
	c.keys = append(c.keys, k)
	c.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if down {
		return 0, errDown
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tat == nil {
		c.tat = map[limit.Key]time.Time{}
	}
	now := time.Now()
	tat := c.tat[k]
	if tat.Before(now) {
		tat = now
	}
	tat = tat.Add(r.Per / time.Duration(r.Count) * time.Duration(n))
	if most := now.Add(limit.MaxDebt * r.Per); tat.After(most) {
		tat = most
	}
	c.tat[k] = tat
	return tat.Sub(now), nil
}

func (c *sharedCount) calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.debits
}

func (c *sharedCount) reported() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sum
}

func (c *sharedCount) set(delay time.Duration, down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay, c.down = delay, down
}

func rates(t interface{ Fatal(...any) }, m map[string]string) *limit.Rates {
	r, err := limit.ParseRates(m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// granted asks n times and returns how many were granted.
func granted(n int, ask func() limit.Decision) (granted int) {
	for range n {
		if ask().Allowed {
			granted++
		}
	}
	return granted
}

var caller = limit.Caller{Application: "app", User: "user"}

func TestLimiter_OneGatewayIsExact(t *testing.T) {
	for name, shared := range map[string]limit.Shared{"not shared": nil, "shared": &sharedCount{}, "shared with delay": &sharedCount{delay: 5 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, n := range []int{1, 2, 3, 10, 100, 1000} {
					l := limit.New(limit.Options{Shared: shared, Rates: rates(t, map[string]string{"read": "off", "read_user": fmt.Sprintf("%d/1m", n)})})
					defer l.Close()
					who := limit.Caller{Application: "app", User: fmt.Sprint(n)}
					read := func() limit.Decision { return l.Read(t.Context(), who) }
					start := time.Now()
					got := granted(2*n, read)
					require.GreaterOrEqual(t, got, n, "the whole limit is available at once")
					require.LessOrEqual(t, got, n+int(time.Since(start)*time.Duration(n)/time.Minute)+1, "only refilled requests are granted on top")
					if time.Since(start) == 0 {
						require.Equal(t, n, got)
					}
					d := read()
					require.False(t, d.Allowed)
					require.False(t, d.Degraded)
					require.Positive(t, d.RetryAfter)
					time.Sleep(d.RetryAfter)
					require.Equal(t, 1, granted(5, read), "one request is granted after Retry-After")
					time.Sleep(2 * time.Minute)
					require.GreaterOrEqual(t, granted(2*n, read), n, "the limit is full again")
				}
			})
		})
	}
}

func TestLimiter_OneGatewayIsExactConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &sharedCount{delay: time.Millisecond}
		l := limit.New(limit.Options{Shared: c, Rates: rates(t, map[string]string{"create": "100/1m", "create_user": "off"})})
		defer l.Close()
		var allowed atomic.Int32
		var wg sync.WaitGroup
		for range 300 {
			wg.Go(func() {
				if l.Create(t.Context(), caller).Allowed {
					allowed.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 100, allowed.Load())
	})
}

// Several gateways together never exceed the error that the doc comment of Limiter states,
// and later make up for what they granted in excess.
func TestLimiter_GatewaysStayWithinStatedError(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			n := rapid.IntRange(1, 200).Draw(r, "count")
			nodes := rapid.IntRange(1, 4).Draw(r, "nodes")
			rate := limit.Rate{Count: n, Per: time.Minute}
			set := new(limit.Rates)
			set.Set(limit.Read, rate)
			set.Set(limit.ReadUser, limit.Rate{})
			c := &sharedCount{delay: time.Duration(rapid.IntRange(0, 20).Draw(r, "delay")) * time.Millisecond}
			var gateways []*limit.Limiter
			for range nodes {
				l := limit.New(limit.Options{Shared: c, Nodes: nodes, Rates: set})
				defer l.Close()
				gateways = append(gateways, l)
			}
			start := time.Now()
			total := 0
			for range rapid.IntRange(1, 300).Draw(r, "steps") {
				l := gateways[rapid.IntRange(0, nodes-1).Draw(r, "gateway")]
				total += granted(rapid.IntRange(1, 20).Draw(r, "burst"), func() limit.Decision { return l.Read(t.Context(), caller) })
				time.Sleep(time.Duration(rapid.IntRange(0, 400).Draw(r, "pause")) * time.Millisecond)
				batch := max(1, n/(10*nodes))
				// One request more, because messages take time.
				most := n + int(time.Since(start)*time.Duration(n)/rate.Per) + 2*batch*nodes + 1
				require.LessOrEqual(t, total, most)
			}
		})
	})
}

func TestLimiter_ErrorDoesNotAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &sharedCount{delay: time.Millisecond}
		set := rates(t, map[string]string{"read": "600/1m", "read_user": "off"})
		total := 0
		var gateways []*limit.Limiter
		for range 3 {
			l := limit.New(limit.Options{Shared: c, Nodes: 3, Rates: set})
			defer l.Close()
			gateways = append(gateways, l)
		}
		for range 600 { // ten minutes with 100 requests per second to each gateway
			for _, l := range gateways {
				total += granted(100, func() limit.Decision { return l.Read(t.Context(), caller) })
			}
			time.Sleep(time.Second)
		}
		exact := 600 + 10*600
		require.InDelta(t, exact, total, 2*3*20, "the error does not add up")
	})
}

func TestLimiter_OneMessagePerBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &sharedCount{delay: time.Millisecond}
		l := limit.New(limit.Options{Shared: c, Rates: rates(t, map[string]string{"read": "1000/1m", "read_user": "off"})})
		defer l.Close()
		for range 500 {
			start := time.Now()
			require.True(t, l.Read(t.Context(), caller).Allowed)
			require.Zero(t, time.Since(start), "no request waits")
			time.Sleep(60 * time.Millisecond)
		}
		require.Equal(t, 500/50, c.calls())

		// A caller that sends few requests is never reported.
		for range 100 {
			require.True(t, l.Read(t.Context(), limit.Caller{Application: "rare"}).Allowed)
			time.Sleep(time.Minute)
		}
		require.Equal(t, 500/50, c.calls())
	})
}

func TestLimiter_SharedCountUnavailable(t *testing.T) {
	for name, broken := range map[string]struct {
		delay time.Duration
		down  bool
	}{"refuses": {0, true}, "hangs": {time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &sharedCount{}
				l := limit.New(limit.Options{Shared: c, Nodes: 4, Rates: rates(t, map[string]string{"read": "100/1m", "read_user": "off", "create": "1/1m", "create_user": "off"})})
				defer l.Close()
				read := func() limit.Decision { return l.Read(t.Context(), caller) }
				// Before the failure, this gateway granted the whole limit.
				require.Equal(t, 100, granted(1000, read))
				synctest.Wait()
				c.set(broken.delay, broken.down)
				time.Sleep(10 * time.Minute)

				start := time.Now()
				got := granted(1000, read)
				require.GreaterOrEqual(t, got, 25, "the share of the gateway")
				require.LessOrEqual(t, got, 25+3*2, "plus what it grants before it detects the failure")
				require.Less(t, time.Since(start), time.Second, "requests do not wait for long")
				d := read()
				require.False(t, d.Allowed)
				require.True(t, d.Degraded)
				time.Sleep(d.RetryAfter)
				require.True(t, read().Allowed, "the share is refilled")
				for range 60 {
					got += granted(10, read)
					time.Sleep(time.Second)
				}
				require.InDelta(t, 25+25, got, 6)
				require.True(t, l.Create(t.Context(), caller).Allowed, "a limit of one is not blocked")

				c.set(0, false)
				time.Sleep(10 * time.Minute)
				got = granted(1, read)
				synctest.Wait() // its answer ends the failure
				got += granted(1000, read)
				require.Equal(t, 100, got, "the whole limit is available again")
			})
		})
	}
}

func TestLimiter_UserDoesNotUseUpTheApplication(t *testing.T) {
	l := limit.New(limit.Options{Rates: rates(t, map[string]string{"create": "10/1m", "create_user": "2/1m"})})
	defer l.Close()
	require.Equal(t, 2, granted(50, func() limit.Decision { return l.Create(t.Context(), caller) }))
	d := l.Create(t.Context(), caller)
	require.Equal(t, limit.CreateUser, d.Policy)
	others := 0
	for i := range 20 {
		others += granted(1, func() limit.Decision {
			return l.Create(t.Context(), limit.Caller{Application: "app", User: fmt.Sprint(i)})
		})
	}
	require.Equal(t, 8, others)
	d = l.Create(t.Context(), limit.Caller{Application: "app", User: "another"})
	require.False(t, d.Allowed)
	require.Equal(t, limit.Create, d.Policy)
	require.True(t, l.Create(t.Context(), limit.Caller{Application: "other app", User: "user"}).Allowed)
	require.True(t, l.Read(t.Context(), caller).Allowed)
	require.True(t, l.Token(t.Context(), caller).Allowed)
}

func TestLimiter_ApplicationOverrides(t *testing.T) {
	l := limit.New(limit.Options{Rates: rates(t, map[string]string{"read": "3/1m"})})
	defer l.Close()
	own, err := limit.ParseOverrides(map[string]string{"read": "5/1m", "read_user": "off"})
	require.NoError(t, err)
	c := limit.Caller{Application: "app", User: "user", Rates: own}
	require.Equal(t, 5, granted(10, func() limit.Decision { return l.Read(t.Context(), c) }))
	none, err := limit.ParseOverrides(map[string]string{"read": "off", "read_user": "off"})
	require.NoError(t, err)
	d := l.Read(t.Context(), limit.Caller{Application: "app", User: "user", Rates: none})
	require.True(t, d.Allowed)
	policy, standing := d.Headers()
	require.Empty(t, policy)
	require.Empty(t, standing)
}

func TestLimiter_ReportsTheTighterLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(limit.Options{Rates: rates(t, map[string]string{"read": "10/1m", "read_user": "8/1m"})})
		defer l.Close()
		d := l.Read(t.Context(), caller)
		policy, standing := d.Headers()
		require.Equal(t, `"read_user";q=8;w=60`, policy)
		require.Equal(t, `"read_user";r=7;t=8`, standing)
		for i := range 5 {
			d = l.Read(t.Context(), limit.Caller{Application: "app", User: fmt.Sprint(i)})
		}
		policy, standing = d.Headers()
		require.Equal(t, `"read";q=10;w=60`, policy)
		require.Equal(t, `"read";r=4;t=36`, standing)
		granted(10, func() limit.Decision { return l.Read(t.Context(), caller) })
		d = l.Read(t.Context(), caller)
		require.False(t, d.Allowed)
		_, standing = d.Headers()
		require.Equal(t, `"read";r=0;t=60`, standing)
		require.Equal(t, 6*time.Second, d.RetryAfter.Round(time.Second))
	})
}

// fail makes a failed attempt, if one is allowed.
func fail(l *limit.Limiter, app string, source netip.Addr, own *limit.Rates) limit.Decision {
	a, d := l.Attempt(context.Background(), app, source, own)
	if d.Allowed {
		a.Fail()
	}
	return d
}

// try makes a successful attempt, if one is allowed.
func try(l *limit.Limiter, app string, source netip.Addr, own *limit.Rates) limit.Decision {
	a, d := l.Attempt(context.Background(), app, source, own)
	if d.Allowed {
		a.End()
	}
	return d
}

func TestLimiter_Failures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &sharedCount{}
		set := rates(t, map[string]string{"failed": "3/1m", "failed_source": "10/1m"})
		l := limit.New(limit.Options{Shared: c, Rates: set})
		defer l.Close()
		other := limit.New(limit.Options{Shared: c, Rates: set})
		defer other.Close()
		here, near := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("::ffff:192.0.2.200")
		elsewhere := netip.MustParseAddr("198.51.100.7")

		for range 3 {
			require.True(t, fail(l, "app", here, nil).Allowed)
			synctest.Wait()
		}
		d := try(l, "app", here, nil)
		require.False(t, d.Allowed)
		require.Equal(t, limit.Failed, d.Policy)
		require.Equal(t, 20*time.Second, d.RetryAfter)
		require.False(t, try(l, "app", near, nil).Allowed, "the same network")
		require.True(t, try(l, "app", elsewhere, nil).Allowed, "the application can still log in from another network")
		require.True(t, try(l, "other", here, nil).Allowed)

		// The other gateway learns the count with its first failure.
		synctest.Wait()
		require.True(t, fail(other, "app", here, nil).Allowed)
		synctest.Wait()
		require.False(t, try(other, "app", here, nil).Allowed)

		// Many client ids from one network.
		for i := range 20 {
			fail(l, fmt.Sprint(i), here, nil)
			synctest.Wait()
		}
		d = try(l, "yet another", near, nil)
		require.False(t, d.Allowed)
		require.Equal(t, limit.FailedSource, d.Policy)
		require.True(t, try(l, "app", elsewhere, nil).Allowed)

		own, err := limit.ParseOverrides(map[string]string{"failed": "off"})
		require.NoError(t, err)
		for range 9 {
			fail(l, "lenient", elsewhere, own)
		}
		require.True(t, try(l, "lenient", elsewhere, own).Allowed)

		// Without an address, only the pair of application and address is limited.
		for i := range 40 {
			fail(l, fmt.Sprint(i%4), netip.Addr{}, nil)
		}
		require.False(t, try(l, "1", netip.Addr{}, nil).Allowed)
		require.True(t, try(l, "5", netip.Addr{}, nil).Allowed)
	})
}

// Concurrent failures do not exceed the limit, and concurrent successes are not limited.
func TestLimiter_ConcurrentAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := rates(t, map[string]string{"failed": "3/1h", "failed_source": "off"})
		here := netip.MustParseAddr("192.0.2.7")
		together := func(l *limit.Limiter, n int, end func(*limit.Attempt)) (granted int32) {
			var count atomic.Int32
			var all sync.WaitGroup
			for range n {
				all.Go(func() {
					a, d := l.Attempt(t.Context(), "app", here, nil)
					if !d.Allowed {
						return
					}
					count.Add(1)
					time.Sleep(10 * time.Millisecond)
					end(a)
				})
			}
			all.Wait()
			return count.Load()
		}
		l := limit.New(limit.Options{Rates: set})
		defer l.Close()
		require.EqualValues(t, 20, together(l, 20, (*limit.Attempt).End), "all of them succeed")
		require.EqualValues(t, 3, together(l, 20, (*limit.Attempt).Fail), "all of them fail")
		require.EqualValues(t, 0, together(l, 20, (*limit.Attempt).End))

		// An attempt that waits too long, or whose caller has gone, is refused.
		l = limit.New(limit.Options{Rates: set})
		defer l.Close()
		var held []*limit.Attempt
		for range 3 {
			a, d := l.Attempt(t.Context(), "app", here, nil)
			require.True(t, d.Allowed)
			held = append(held, a)
		}
		start := time.Now()
		_, d := l.Attempt(t.Context(), "app", here, nil)
		require.False(t, d.Allowed)
		require.Positive(t, d.RetryAfter)
		require.Equal(t, 5*time.Second, time.Since(start))
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, d = l.Attempt(gone, "app", here, nil)
		require.False(t, d.Allowed)
		for _, a := range held {
			a.End()
			a.End()
		}
		require.EqualValues(t, 3, together(l, 20, (*limit.Attempt).Fail), "each attempt is released once")
	})
}

// Without the shared count, a gateway allows only its share of failures.
func TestLimiter_FailuresWithoutSharedCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &sharedCount{down: true}
		l := limit.New(limit.Options{Shared: c, Rates: rates(t, map[string]string{"failed": "20/1h", "failed_source": "off"}), Nodes: 4})
		defer l.Close()
		here := netip.MustParseAddr("192.0.2.7")
		failed := 0
		for range 40 {
			if fail(l, "app", here, nil).Allowed {
				failed++
			}
			synctest.Wait()
		}
		require.GreaterOrEqual(t, failed, 5)
		require.LessOrEqual(t, failed, 6, "a quarter, plus one before the gateway detects the failure")
	})
}

func TestLimiter_Adopt(t *testing.T) {
	l := limit.New(limit.Options{Rates: rates(t, map[string]string{"adopt": "2/1m"})})
	defer l.Close()
	for _, source := range []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::1"), {}} {
		require.Equal(t, 2, granted(5, func() limit.Decision { return l.Adopt(t.Context(), source) }))
	}
	unlimited := limit.New(limit.Options{Rates: rates(t, map[string]string{"adopt": "off"})})
	defer unlimited.Close()
	require.Equal(t, 50, granted(50, func() limit.Decision { return unlimited.Adopt(t.Context(), netip.Addr{}) }))
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7":              "192.0.2.0/24",
		"::ffff:192.0.2.7":       "192.0.2.0/24",
		"2001:db8:1:2:3:4:5:6":   "2001:db8:1:2::/64",
		"fe80::1%eth0":           "fe80::/64",
		"2001:db8:1:2:ffff::%x1": "2001:db8:1:2::/64",
	} {
		require.Equal(t, want, limit.Network(netip.MustParseAddr(in)).String())
	}
	require.False(t, limit.Network(netip.Addr{}).IsValid())
}

func TestLimiter_MemoryIsBounded(t *testing.T) {
	c := &sharedCount{}
	l := limit.New(limit.Options{Shared: c, Entries: 100})
	defer l.Close()
	for i := range 5000 {
		l.Read(t.Context(), limit.Caller{Application: "app", User: fmt.Sprint(i)})
		fail(l, fmt.Sprint(i)+string(make([]byte, 1000)), netip.MustParseAddr("192.0.2.7"), nil)
	}
	require.LessOrEqual(t, l.Entries(), 2*100+2)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.keys {
		require.LessOrEqual(t, len(k.Subject), 128)
	}
}

// Many other counts do not make a limiter forget one that is nearly or fully used up.
func TestLimiter_KeepsUsedUpCounts(t *testing.T) {
	l := limit.New(limit.Options{Entries: 100, Rates: rates(t, map[string]string{"read": "off", "read_user": "50/1d", "failed": "50/1d", "failed_source": "off"})})
	defer l.Close()
	home := netip.MustParseAddr("192.0.2.7")
	reads, failures := 0, 0
	for i := range 100 {
		reads += granted(1, func() limit.Decision { return l.Read(t.Context(), limit.Caller{Application: "app", User: "busy"}) })
		if fail(l, "app", home, nil).Allowed {
			failures++
		}
		if i == 0 {
			continue // one count has one used, as the others have
		}
		for j := range 500 {
			other := fmt.Sprint(i, "/", j)
			l.Read(t.Context(), limit.Caller{Application: "app", User: other})
			fail(l, other, home, nil)
		}
	}
	require.Equal(t, 50, reads)
	require.Equal(t, 50, failures)
}

// Concurrent requests are granted exactly the limit, and each grant is reported once.
func TestLimiter_ConcurrentRequests(t *testing.T) {
	c := &sharedCount{}
	const limited = 10_000
	l := limit.New(limit.Options{Shared: c, Rates: rates(t, map[string]string{"read": "10000/1d", "read_user": "off"})})
	defer l.Close()
	start := time.Now()
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			allowed.Add(int64(granted(limited/8, func() limit.Decision { return l.Read(t.Context(), caller) })))
		})
	}
	wg.Wait()
	back := int64(time.Since(start)/(24*time.Hour/limited)) + 1
	require.GreaterOrEqual(t, allowed.Load(), int64(limited))
	require.LessOrEqual(t, allowed.Load(), limited+back)
	const batch = limited / 10 / limit.DefaultNodes
	require.Eventually(t, func() bool {
		reported := int64(c.reported())
		return reported <= allowed.Load() && reported > allowed.Load()-2*batch
	}, 5*time.Second, time.Millisecond, "reported %d of %d", c.reported(), allowed.Load())
}

func TestLimiter_AfterClose(t *testing.T) {
	c := &sharedCount{delay: time.Hour}
	l := limit.New(limit.Options{Shared: c, Patience: time.Millisecond})
	for range 10 {
		l.Create(t.Context(), caller)
	}
	l.Close()
	l.Close()
	require.True(t, l.Create(t.Context(), caller).Allowed)
}

func TestLimiter_KnownCallerDoesNotAllocate(t *testing.T) {
	l := limit.New(limit.Options{Shared: &sharedCount{}, Rates: rates(t, map[string]string{"read": "1000000/1s", "read_user": "1000000/1s"})})
	defer l.Close()
	ctx := t.Context()
	l.Read(ctx, caller)
	require.Zero(t, int(testing.AllocsPerRun(1000, func() { l.Read(ctx, caller) })))
}

func BenchmarkLimiter(b *testing.B) {
	ctx := b.Context()
	l := limit.New(limit.Options{Shared: &sharedCount{}, Rates: rates(b, map[string]string{"read": "1000000/1s", "read_user": "1000000/1s", "create": "1/1d", "create_user": "off"})})
	defer l.Close()
	b.Run("application and user", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.Read(ctx, caller)
		}
	})
	b.Run("application", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.Read(ctx, limit.Caller{Application: "app"})
		}
	})
	b.Run("refused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.Create(ctx, caller)
		}
	})
	b.Run("attempt", func(b *testing.B) {
		b.ReportAllocs()
		source := netip.MustParseAddr("192.0.2.7")
		for b.Loop() {
			a, _ := l.Attempt(ctx, "app", source, nil)
			a.End()
		}
	})
}

// A changed limit applies at once, also if the old one was used up.
func TestLimiter_ChangedLimitStartsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(limit.Options{Nodes: 1})
		defer l.Close()
		ask := func(rate limit.Rate) bool {
			own := new(limit.Rates)
			own.Set(limit.Read, rate)
			return l.Read(t.Context(), limit.Caller{Application: "a", Rates: own}).Allowed
		}
		few, more := limit.Rate{Count: 1, Per: 24 * time.Hour}, limit.Rate{Count: 3, Per: 24 * time.Hour}
		require.Equal(t, []bool{true, false}, []bool{ask(few), ask(few)})
		require.Equal(t, []bool{true, true, true, false}, []bool{ask(more), ask(more), ask(more), ask(more)})
	})
}
