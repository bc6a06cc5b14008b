// SPDX-License-Identifier: MIT

package backendclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tests/seed"
)

// renewalMeet is a Meet that uses the clock of the synctest bubble. It counts renewals and
// exchanges that callers wait for separately.
type renewalMeet struct {
	life       time.Duration
	answer     func(mail string, renewal bool) (status int, body string) // instead of a token, unless status is 0
	onExchange func(renewal bool)
	duration   func() time.Duration

	client atomic.Pointer[backendclient.Client] // for onExchange to call

	mu       sync.Mutex
	waited   map[string]int // exchanges that callers waited for, by mail
	renewals map[string]int
}

type detachedKey struct{}

func (m *renewalMeet) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/token/") {
		return m.respond(http.StatusUnauthorized, `{"detail":"User account is disabled."}`), nil
	}
	var asked struct{ Scope string }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return nil, err
	}
	renewal := r.Context().Value(detachedKey{}) == nil
	m.count(asked.Scope, renewal)
	if m.onExchange != nil {
		m.onExchange(renewal)
	}
	duration := time.Second
	if m.duration != nil {
		duration = m.duration()
	}
	select {
	case <-time.After(duration):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if m.answer != nil {
		if status, body := m.answer(asked.Scope, renewal); status != 0 {
			return m.respond(status, body), nil
		}
	}
	return m.respond(http.StatusOK, fmt.Sprintf(`{"access_token":"%s.%d","expires_in":%d}`,
		strings.ReplaceAll(asked.Scope, "@", "."), time.Now().UnixNano(), int(m.life.Seconds()))), nil
}

func (m *renewalMeet) count(mail string, renewal bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waited == nil {
		m.waited, m.renewals = map[string]int{}, map[string]int{}
	}
	if renewal {
		m.renewals[mail]++
	} else {
		m.waited[mail]++
	}
}

// exchanges returns how many exchanges a user waited for, and how many were renewals.
func (m *renewalMeet) exchanges(mail string) (waited, ahead int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waited[mail], m.renewals[mail]
}

// renewalCount returns the number of renewals tried for all users.
func (m *renewalMeet) renewalCount() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, renewals := range m.renewals {
		n += renewals
	}
	return n
}

func (*renewalMeet) respond(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

// newRenewalClient returns a client that may renew every caller's token.
func newRenewalClient(t *testing.T, meet *renewalMeet, change ...func(*backendclient.Options)) *backendclient.Client {
	t.Helper()
	o := backendclient.Options{
		Transport: meet, Host: host,
		MayRenew: func(context.Context, backendclient.Caller) bool { return true },
		Detach: func(context.Context) context.Context {
			return context.WithValue(context.Background(), detachedKey{}, true)
		},
	}
	for _, f := range change {
		f(&o)
	}
	c, err := backendclient.New(o)
	require.NoError(t, err)
	meet.client.Store(c)
	return c
}

// startRenewing returns such a client and runs Renew until the test ends.
func startRenewing(t *testing.T, meet *renewalMeet, change ...func(*backendclient.Options)) *backendclient.Client {
	t.Helper()
	c := newRenewalClient(t, meet, change...)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { c.Renew(ctx) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return c
}

// mustToken returns the caller's token and fails the test on an error.
func mustToken(t *testing.T, c *backendclient.Client, caller backendclient.Caller) *backendclient.Token {
	t.Helper()
	token, err := c.Token(t.Context(), caller)
	require.NoError(t, err)
	return token
}

const day = 24 * time.Hour

// A user who comes once a day waits for an exchange on the first day only. A user who stays
// away costs at most two more renewals.
func TestRenew_DailyUserWaitsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewalMeet{life: day}
		c := startRenewing(t, meet)
		var before string
		for range 10 {
			token := mustToken(t, c, alice)
			require.NotEqual(t, before, token.Value())
			before = token.Value()
			time.Sleep(day)
		}
		waited, ahead := meet.exchanges(alice.Mail)
		require.Equal(t, 1, waited)
		require.LessOrEqual(t, ahead, 16, "a renewal starts after 70 % of a token's usable time at the earliest")
		time.Sleep(10 * day)
		_, later := meet.exchanges(alice.Mail)
		require.LessOrEqual(t, later, ahead+1, "one day has passed already")
		require.EqualValues(t, later, c.Stats().Renewals.Exchanged)
	})
}

// Tokens of one hour are renewed for a user who keeps sending requests, but not for one who
// sent a single request.
func TestRenew_HourlyTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewalMeet{life: time.Hour}
		c := startRenewing(t, meet)
		mustToken(t, c, bob)
		for range 8 * 12 {
			mustToken(t, c, alice)
			time.Sleep(5 * time.Minute)
		}
		waited, ahead := meet.exchanges(alice.Mail)
		require.Equal(t, 1, waited)
		require.GreaterOrEqual(t, ahead, 8)
		require.Equal(t, ahead, meet.renewalCount(), "none for bob")
		time.Sleep(day)
		require.LessOrEqual(t, meet.renewalCount(), ahead+1)
	})
}

// A token that is usable for less than five minutes is not renewed.
func TestRenew_SkipsTokensOfMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewalMeet{life: 5 * time.Minute}
		c := startRenewing(t, meet)
		for range 300 {
			mustToken(t, c, alice)
			time.Sleep(10 * time.Second)
		}
		require.Zero(t, meet.renewalCount())
	})
}

// When a user calls three gateways, one renews the token and the others load it from the
// store.
func TestRenew_OnceForAllGateways(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet, store := &renewalMeet{life: day}, newMemory()
		var gateways []*backendclient.Client
		for range 3 {
			gateways = append(gateways, startRenewing(t, meet, withStore(store)))
		}
		for _, c := range gateways {
			mustToken(t, c, alice)
		}
		time.Sleep(20 * time.Hour)
		waited, ahead := meet.exchanges(alice.Mail)
		require.Equal(t, []int{1, 1}, []int{waited, ahead})
		values := map[string]bool{}
		var found uint64
		for _, c := range gateways {
			values[mustToken(t, c, alice).Value()] = true
			found += c.Stats().Renewals.Found
		}
		require.Len(t, values, 1)
		require.EqualValues(t, 2, found)
		require.Empty(t, store.locks)
	})
}

// Without the store, the gateways cannot agree on which of them renews, so none does.
func TestRenew_StoreUnavailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet, store := &renewalMeet{life: day}, newMemory()
		c := startRenewing(t, meet, withStore(store))
		token := mustToken(t, c, alice)
		store.fail(errors.New("store unavailable"))
		time.Sleep(20 * time.Hour)
		require.Zero(t, meet.renewalCount())
		require.Equal(t, token.Value(), mustToken(t, c, alice).Value())
		store.fail(nil)
		time.Sleep(time.Hour)
		require.Equal(t, 1, meet.renewalCount())
	})
}

// A token is not renewed if the gateway has revoked the caller or Meet has disabled the user.
func TestRenew_SkipsRevokedAndDisabled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewalMeet{life: day}
		var mu sync.Mutex
		var asked []backendclient.Caller
		c := startRenewing(t, meet, func(o *backendclient.Options) {
			o.MayRenew = func(_ context.Context, caller backendclient.Caller) bool {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, caller)
				return caller.Mail != alice.Mail
			}
		})
		revoked := alice
		revoked.Application, revoked.RequestID, revoked.Source = "platform", "a request", "192.0.2.1"
		revoked.Generations[3] = 7
		mustToken(t, c, revoked)
		mustToken(t, c, bob)
		mustToken(t, c, carol)
		_, err := c.Send(t.Context(), bob, getRooms)
		require.ErrorIs(t, err, backendclient.ErrUserDisabled)
		time.Sleep(20 * time.Hour)
		_, ahead := meet.exchanges(carol.Mail)
		require.Equal(t, []int{1, 1}, []int{ahead, meet.renewalCount()})
		mu.Lock()
		defer mu.Unlock()
		require.Contains(t, asked, backendclient.Caller{Credentials: full, Mail: alice.Mail, Application: "platform", Generations: revoked.Generations})
	})
}

// When renewals fail, callers keep using their current token and the pauses between renewals
// grow.
func TestRenew_FailuresBackOff(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		status  int
		body    string
		least   int // attempts for two users of an application while their tokens are usable
		most    int
		refused bool
	}{
		"meet unavailable":     {503, `{}`, 4, 20, false},
		"server error":         {500, `{}`, 4, 20, false},
		"no token":             {200, `{}`, 4, 20, false},
		"throttled":            {429, `{}`, 4, 20, false},
		"shorter lifetime":     {200, `{"access_token":"short","expires_in":600}`, 2, 2, false},
		"unknown user":         {404, `{"detail":"User not found."}`, 2, 2, true},
		"wrong credentials":    {401, `{"detail":"Invalid credentials"}`, 2, 18, true},
		"inactive application": {401, `{"detail":"Application is inactive"}`, 2, 18, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				meet := &renewalMeet{life: day}
				meet.answer = func(_ string, renewal bool) (int, string) {
					if !renewal {
						return 0, ""
					}
					return row.status, row.body
				}
				c := startRenewing(t, meet)
				a, b := mustToken(t, c, alice), mustToken(t, c, bob)
				time.Sleep(21 * time.Hour)
				require.Equal(t, a.Value(), mustToken(t, c, alice).Value())
				require.Equal(t, b.Value(), mustToken(t, c, bob).Value())
				require.GreaterOrEqual(t, meet.renewalCount(), row.least)
				require.LessOrEqual(t, meet.renewalCount(), row.most)
				s := c.Stats().Renewals
				require.EqualValues(t, meet.renewalCount(), s.Refused+s.Failed)
				require.Equal(t, row.refused, s.Refused > 0)

				time.Sleep(2 * time.Hour) // the tokens have expired
				mustToken(t, c, alice)
				waited, _ := meet.exchanges(alice.Mail)
				require.Equal(t, 2, waited)
			})
		})
	}
}

// A successful renewal resets the back-off.
func TestRenew_SuccessResetsBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet, began := &renewalMeet{life: day}, time.Now()
		var early, late atomic.Int64 // renewals since the last caller's exchange; those after 25 hours
		meet.answer = func(_ string, renewal bool) (int, string) {
			switch n := early.Add(1); {
			case !renewal:
				early.Store(0)
			case time.Since(began) > 25*time.Hour:
				late.Add(1)
				return 503, `{}`
			case n < 7: // the sixth failure makes the pause half an hour
				return 503, `{}`
			}
			return 0, ""
		}
		c := startRenewing(t, meet)
		mustToken(t, c, alice)
		time.Sleep(22 * time.Hour)
		require.EqualValues(t, 1, c.Stats().Renewals.Exchanged)
		mustToken(t, c, alice)
		for late.Load() == 0 {
			time.Sleep(time.Minute)
		}
		time.Sleep(10 * time.Minute)
		require.GreaterOrEqual(t, late.Load(), int64(4), "after 1, 3, and 7 minutes")
	})
}

// Meet's refusals of one application do not delay the renewals of another.
func TestRenew_RefusedApplicationDelaysNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewalMeet{life: day}
		meet.answer = func(mail string, renewal bool) (int, string) {
			if renewal && strings.HasPrefix(mail, "broken") {
				return 401, `{"detail":"Invalid credentials"}`
			}
			return 0, ""
		}
		c := startRenewing(t, meet)
		other := backendclient.Credentials{ClientID: "other", ClientSecret: "secret"}
		for i := range 100 {
			mustToken(t, c, backendclient.Caller{Credentials: other, Mail: fmt.Sprintf("broken%d@example.com", i)})
		}
		mustToken(t, c, alice)
		time.Sleep(21 * time.Hour)
		_, ahead := meet.exchanges(alice.Mail)
		require.Equal(t, 1, ahead)
		require.LessOrEqual(t, meet.renewalCount(), 20, "one in half an hour, for all its users")
	})
}

// After each renewal, the client pauses for as long as the renewal took.
func TestRenew_PausesAfterEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewalMeet{life: time.Hour}
		var last atomic.Int64
		meet.onExchange = func(renewal bool) {
			now := time.Now()
			if renewal && now.Sub(time.Unix(0, last.Swap(now.UnixNano()))) < 2*time.Second {
				t.Error("a renewal started without a pause after the previous one")
			}
		}
		c := startRenewing(t, meet)
		for range 100 {
			for i := range 200 {
				mustToken(t, c, backendclient.Caller{Credentials: full, Mail: fmt.Sprintf("user%d@example.com", i)})
			}
			time.Sleep(time.Minute)
		}
		require.Greater(t, meet.renewalCount(), 300)
	})
}

// A renewed token keeps the count of fetches for a scope that Meet does not grant, so the
// pauses between fetches keep growing.
func TestRenew_KeepsMissedScopes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewalMeet{life: day}
		c := startRenewing(t, meet)
		caller := alice
		caller.Scopes = []string{"rooms:delete"}
		for range 5 * 24 * 60 {
			mustToken(t, c, caller)
			time.Sleep(time.Minute)
		}
		waited, ahead := meet.exchanges(caller.Mail)
		require.Positive(t, ahead)
		require.LessOrEqual(t, waited, 20)
	})
}

// A token that replaces another is not renewed when the replaced one would have been due.
func TestRenew_ReplacedTokenKeepsNoDueTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewalMeet{life: day}
		c := startRenewing(t, meet)
		mustToken(t, c, alice)
		c.Forget(alice)
		time.Sleep(10 * time.Hour)
		mustToken(t, c, alice)
		time.Sleep(12 * time.Hour)
		require.Zero(t, meet.renewalCount())
	})
}

// A token that is forgotten during its renewal is not stored again.
func TestRenew_ForgottenDuringRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet, store := &renewalMeet{life: day}, newMemory()
		meet.onExchange = func(renewal bool) {
			if renewal {
				meet.client.Load().Forget(alice)
			}
		}
		c := startRenewing(t, meet, withStore(store))
		mustToken(t, c, alice)
		time.Sleep(20 * time.Hour)
		require.Equal(t, 1, meet.renewalCount())
		require.Empty(t, store.keys())
		mustToken(t, c, alice)
		waited, _ := meet.exchanges(alice.Mail)
		require.Equal(t, 2, waited)
	})
}

// A client takes over the tokens and pending renewals of Options.Previous if both use the same
// Meet, API path and cache size.
func TestRenew_NextClientTakesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewalMeet{life: day}
		before := newRenewalClient(t, meet)
		first := mustToken(t, before, alice)
		next := startRenewing(t, meet, func(o *backendclient.Options) { o.Previous = before })
		require.Equal(t, first.Value(), mustToken(t, next, alice).Value())
		time.Sleep(20 * time.Hour)
		require.NotEqual(t, first.Value(), mustToken(t, next, alice).Value())
		waited, ahead := meet.exchanges(alice.Mail)
		require.Equal(t, []int{1, 1}, []int{waited, ahead})

		for name, change := range map[string]func(*backendclient.Options){
			"another Meet": func(o *backendclient.Options) { o.Host = "other.example.org" },
			"another API":  func(o *backendclient.Options) { o.BasePath = "/other" },
			"another size": func(o *backendclient.Options) { o.MaxTokens = 10 },
		} {
			other := startRenewing(t, meet, func(o *backendclient.Options) { o.Previous = next }, change)
			require.Zero(t, other.Stats().Tokens, name)
		}
	})
}

// Renew returns when its context ends, also in the middle of an exchange, and leaves no lock
// behind.
func TestRenew_StopsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet, store := &renewalMeet{life: day}, newMemory()
		ctx, cancel := context.WithCancel(t.Context())
		meet.onExchange = func(renewal bool) {
			if renewal {
				cancel()
			}
		}
		c, err := backendclient.New(backendclient.Options{
			Transport: meet, Host: host, Store: store,
			MayRenew: func(context.Context, backendclient.Caller) bool { return true },
			Detach: func(context.Context) context.Context {
				return context.WithValue(context.Background(), detachedKey{}, true)
			},
		})
		require.NoError(t, err)
		token := mustToken(t, c, alice)
		c.Renew(ctx) // returns
		require.Equal(t, 1, meet.renewalCount())
		require.Empty(t, store.locks)
		require.Equal(t, token.Value(), mustToken(t, c, alice).Value())
		require.Zero(t, c.Stats().Renewals)
		require.Zero(t, c.Stats().Running)
	})
}

// Nothing is renewed without MayRenew, or when a renewal would take the only exchange slot.
func TestRenew_Disabled(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*backendclient.Options){
		"no MayRenew": func(o *backendclient.Options) { o.MayRenew = nil },
		"one slot":    func(o *backendclient.Options) { o.MaxExchanges = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				meet := &renewalMeet{life: day}
				c := startRenewing(t, meet, change)
				mustToken(t, c, alice)
				time.Sleep(3 * day)
				require.Zero(t, meet.renewalCount())
			})
		})
	}
}

// A renewal starts only while at least half of the exchange slots stay free and no caller
// waits, whatever the number of slots and the load.
func TestRenew_CallersGoFirst(t *testing.T) {
	t.Parallel()
	from := seed.Of(t, "RENEW_SEED")
	for round := range uint64(10) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { callersGoFirst(t, rand.New(rand.NewPCG(from, round))) })
		})
	}
}

func callersGoFirst(t *testing.T, r *rand.Rand) {
	slots := 2 + r.IntN(7)
	var mu sync.Mutex
	running, ahead := 0, 0
	draw := func(n int64) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(r.Int64N(n))
	}
	meet := &renewalMeet{life: time.Hour}
	meet.onExchange = func(renewal bool) {
		mu.Lock()
		defer mu.Unlock()
		if renewal {
			if queued := meet.client.Load().Stats().Queued; 2*(slots-running-1) < slots || queued > 0 {
				t.Errorf("a renewal started with %d of %d slots taken and %d callers waiting", running, slots, queued)
			}
			ahead++
		}
		running++
	}
	meet.duration = func() time.Duration { return draw(int64(5 * time.Second)) }
	finish := func(renewal bool) {
		mu.Lock()
		defer mu.Unlock()
		if running > slots || ahead > slots/2 {
			t.Errorf("%d of %d slots are taken, %d of them by renewals", running, slots, ahead)
		}
		running--
		if renewal {
			ahead--
		}
	}
	meet.answer = func(_ string, renewal bool) (int, string) {
		finish(renewal)
		return 0, ""
	}
	c := startRenewing(t, meet, func(o *backendclient.Options) { o.MaxExchanges = slots })

	var callers sync.WaitGroup
	for i := range 200 {
		mail := fmt.Sprintf("user%d@example.com", i)
		callers.Go(func() {
			time.Sleep(draw(int64(time.Hour))) // new users arrive while renewals are due
			for range 30 {
				_, _ = c.Token(t.Context(), backendclient.Caller{Credentials: full, Mail: mail})
				time.Sleep(draw(int64(6 * time.Minute)))
			}
		})
	}
	callers.Wait()
	if c.Stats().Renewals.Exchanged < 50 {
		t.Errorf("only %d renewals, too few for this test", c.Stats().Renewals.Exchanged)
	}
}
