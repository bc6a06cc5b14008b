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

// renewed is a Meet whose clock is that of the bubble. It tells renewals from
// exchanges that callers wait for.
type renewed struct {
	life   time.Duration
	answer func(mail string, renewal bool) (status int, body string) // instead of a token, unless 0
	begun  func(renewal bool)
	took   func() time.Duration

	client atomic.Pointer[backendclient.Client] // for what begun does

	mu       sync.Mutex
	waited   map[string]int // exchanges that callers waited for, by mail
	renewals map[string]int
}

type waitedFor struct{}

func (m *renewed) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/token/") {
		return m.respond(http.StatusUnauthorized, `{"detail":"User account is disabled."}`), nil
	}
	var asked struct{ Scope string }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return nil, err
	}
	renewal := r.Context().Value(waitedFor{}) == nil
	m.count(asked.Scope, renewal)
	if m.begun != nil {
		m.begun(renewal)
	}
	took := time.Second
	if m.took != nil {
		took = m.took()
	}
	select {
	case <-time.After(took):
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

func (m *renewed) count(mail string, renewal bool) {
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

// exchanges tells how many exchanges a user waited for, and how many were made ahead.
func (m *renewed) exchanges(mail string) (waited, ahead int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waited[mail], m.renewals[mail]
}

// ahead tells how many renewals were tried for all users.
func (m *renewed) ahead() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, renewals := range m.renewals {
		n += renewals
	}
	return n
}

func (*renewed) respond(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

// ahead is a client that would renew for everybody.
func ahead(t *testing.T, meet *renewed, change ...func(*backendclient.Options)) *backendclient.Client {
	t.Helper()
	o := backendclient.Options{
		Transport: meet, Host: host,
		MayRenew: func(context.Context, backendclient.Caller) bool { return true },
		Detach: func(context.Context) context.Context {
			return context.WithValue(context.Background(), waitedFor{}, true)
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

// renewing is one that does so until the bubble ends.
func renewing(t *testing.T, meet *renewed, change ...func(*backendclient.Options)) *backendclient.Client {
	t.Helper()
	c := ahead(t, meet, change...)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { c.Renew(ctx) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return c
}

// need asks for a token that must be there.
func need(t *testing.T, c *backendclient.Client, caller backendclient.Caller) *backendclient.Token {
	t.Helper()
	token, err := c.Token(t.Context(), caller)
	require.NoError(t, err)
	return token
}

const day = 24 * time.Hour

// Who comes once a day waits for an exchange on the first day only; who stays away
// costs two renewals more at most.
func TestRenew_ADailyUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewed{life: day}
		c := renewing(t, meet)
		var before string
		for range 10 {
			token := need(t, c, alice)
			require.NotEqual(t, before, token.Value)
			before = token.Value
			time.Sleep(day)
		}
		waited, ahead := meet.exchanges(alice.Mail)
		require.Equal(t, 1, waited)
		require.LessOrEqual(t, ahead, 16, "after seven tenths of each token's use at the earliest")
		time.Sleep(10 * day)
		_, later := meet.exchanges(alice.Mail)
		require.LessOrEqual(t, later, ahead+1, "a day is over already")
		require.EqualValues(t, later, c.Stats().Renewals.Exchanged)
	})
}

// Tokens of an hour are renewed while somebody is at work, and not for who came once.
func TestRenew_ShortTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewed{life: time.Hour}
		c := renewing(t, meet)
		need(t, c, bob)
		for range 8 * 12 {
			need(t, c, alice)
			time.Sleep(5 * time.Minute)
		}
		waited, ahead := meet.exchanges(alice.Mail)
		require.Equal(t, 1, waited)
		require.GreaterOrEqual(t, ahead, 8)
		require.Equal(t, ahead, meet.ahead(), "none for bob")
		time.Sleep(day)
		require.LessOrEqual(t, meet.ahead(), ahead+1)
	})
}

// Nobody thinks of a token that is over before the next look.
func TestRenew_TokensOfMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewed{life: 5 * time.Minute}
		c := renewing(t, meet)
		for range 300 {
			need(t, c, alice)
			time.Sleep(10 * time.Second)
		}
		require.Zero(t, meet.ahead())
	})
}

// Of three gateways that a user calls, one renews, and the others take its token.
func TestRenew_OnceForAllGateways(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet, store := &renewed{life: day}, newMemory()
		var gateways []*backendclient.Client
		for range 3 {
			gateways = append(gateways, renewing(t, meet, sharing(store)))
		}
		for _, c := range gateways {
			need(t, c, alice)
		}
		time.Sleep(20 * time.Hour)
		waited, ahead := meet.exchanges(alice.Mail)
		require.Equal(t, []int{1, 1}, []int{waited, ahead})
		values := map[string]bool{}
		var found uint64
		for _, c := range gateways {
			values[need(t, c, alice).Value] = true
			found += c.Stats().Renewals.Found
		}
		require.Len(t, values, 1)
		require.EqualValues(t, 2, found)
		require.Empty(t, store.locks)
	})
}

// Without the store nobody knows who renews, so nobody does.
func TestRenew_StoreAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet, store := &renewed{life: day}, newMemory()
		c := renewing(t, meet, sharing(store))
		token := need(t, c, alice)
		store.fail(errors.New("store is away"))
		time.Sleep(20 * time.Hour)
		require.Zero(t, meet.ahead())
		require.Equal(t, token.Value, need(t, c, alice).Value)
		store.fail(nil)
		time.Sleep(time.Hour)
		require.Equal(t, 1, meet.ahead())
	})
}

// Who may not act any more, by the gateway's word or by Meet's, is not renewed.
func TestRenew_NotForTheRevoked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewed{life: day}
		var mu sync.Mutex
		var asked []backendclient.Caller
		c := renewing(t, meet, func(o *backendclient.Options) {
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
		need(t, c, revoked)
		need(t, c, bob)
		need(t, c, carol)
		_, err := c.Send(t.Context(), bob, getRooms)
		require.ErrorIs(t, err, backendclient.ErrUserDisabled)
		time.Sleep(20 * time.Hour)
		_, ahead := meet.exchanges(carol.Mail)
		require.Equal(t, []int{1, 1}, []int{ahead, meet.ahead()})
		mu.Lock()
		defer mu.Unlock()
		require.Contains(t, asked, backendclient.Caller{Credentials: full, Mail: alice.Mail, Application: "platform", Generations: revoked.Generations})
	})
}

// Whatever goes wrong, callers go on with the token that is kept, and Meet is left
// alone for longer and longer.
func TestRenew_Failures(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		status  int
		body    string
		least   int // attempts for two users of an application within the rest of a token's use
		most    int
		refused bool
	}{
		"meet away":            {503, `{}`, 4, 20, false},
		"meet broken":          {500, `{}`, 4, 20, false},
		"no token":             {200, `{}`, 4, 20, false},
		"throttled":            {429, `{}`, 4, 20, false},
		"shorter than it was":  {200, `{"access_token":"short","expires_in":600}`, 2, 2, false},
		"unknown user":         {404, `{"detail":"User not found."}`, 2, 2, true},
		"wrong credentials":    {401, `{"detail":"Invalid credentials"}`, 2, 18, true},
		"inactive application": {401, `{"detail":"Application is inactive"}`, 2, 18, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				meet := &renewed{life: day}
				meet.answer = func(_ string, renewal bool) (int, string) {
					if !renewal {
						return 0, ""
					}
					return row.status, row.body
				}
				c := renewing(t, meet)
				a, b := need(t, c, alice), need(t, c, bob)
				time.Sleep(21 * time.Hour)
				require.Equal(t, a.Value, need(t, c, alice).Value)
				require.Equal(t, b.Value, need(t, c, bob).Value)
				require.GreaterOrEqual(t, meet.ahead(), row.least)
				require.LessOrEqual(t, meet.ahead(), row.most)
				s := c.Stats().Renewals
				require.EqualValues(t, meet.ahead(), s.Refused+s.Failed)
				require.Equal(t, row.refused, s.Refused > 0)

				time.Sleep(2 * time.Hour) // the tokens are over
				need(t, c, alice)
				waited, _ := meet.exchanges(alice.Mail)
				require.Equal(t, 2, waited)
			})
		})
	}
}

// A success makes the next pause a short one.
func TestRenew_Recovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet, began := &renewed{life: day}, time.Now()
		var failing, late atomic.Int64 // renewals that fail, early ones and late ones
		meet.answer = func(_ string, renewal bool) (int, string) {
			switch n := failing.Add(1); {
			case !renewal:
				failing.Store(0)
			case time.Since(began) > 25*time.Hour:
				late.Add(1)
				return 503, `{}`
			case n < 7: // Meet is left alone for half an hour then
				return 503, `{}`
			}
			return 0, ""
		}
		c := renewing(t, meet)
		need(t, c, alice)
		time.Sleep(22 * time.Hour)
		require.EqualValues(t, 1, c.Stats().Renewals.Exchanged)
		need(t, c, alice)
		for late.Load() == 0 {
			time.Sleep(time.Minute)
		}
		time.Sleep(10 * time.Minute)
		require.GreaterOrEqual(t, late.Load(), int64(4), "after 1, 3, and 7 minutes")
	})
}

// One application that Meet refuses keeps none but its own users from being renewed.
func TestRenew_ABrokenApplicationIsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewed{life: day}
		meet.answer = func(mail string, renewal bool) (int, string) {
			if renewal && strings.HasPrefix(mail, "broken") {
				return 401, `{"detail":"Invalid credentials"}`
			}
			return 0, ""
		}
		c := renewing(t, meet)
		other := backendclient.Credentials{ClientID: "other", ClientSecret: "secret"}
		for i := range 100 {
			need(t, c, backendclient.Caller{Credentials: other, Mail: fmt.Sprintf("broken%d@example.com", i)})
		}
		need(t, c, alice)
		time.Sleep(21 * time.Hour)
		_, ahead := meet.exchanges(alice.Mail)
		require.Equal(t, 1, ahead)
		require.LessOrEqual(t, meet.ahead(), 20, "one in half an hour, for all its users")
	})
}

// After each renewal Meet has as long to itself.
func TestRenew_Rests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewed{life: time.Hour}
		var last atomic.Int64
		meet.begun = func(renewal bool) {
			now := time.Now()
			if renewal && now.Sub(time.Unix(0, last.Swap(now.UnixNano()))) < 2*time.Second {
				t.Error("a renewal begins before Meet had a rest")
			}
		}
		c := renewing(t, meet)
		for range 100 {
			for i := range 200 {
				need(t, c, backendclient.Caller{Credentials: full, Mail: fmt.Sprintf("user%d@example.com", i)})
			}
			time.Sleep(time.Minute)
		}
		require.Greater(t, meet.ahead(), 300)
	})
}

// A token that is fetched in vain for a scope goes on being so when it was renewed.
func TestRenew_OfWhatMeetCutsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewed{life: day}
		c := renewing(t, meet)
		caller := alice
		caller.Scopes = []string{"rooms:delete"}
		for range 5 * 24 * 60 {
			need(t, c, caller)
			time.Sleep(time.Minute)
		}
		waited, ahead := meet.exchanges(caller.Mail)
		require.Positive(t, ahead)
		require.LessOrEqual(t, waited, 20)
	})
}

// A token is not renewed because the one before it would be due.
func TestRenew_WhatIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewed{life: day}
		c := renewing(t, meet)
		need(t, c, alice)
		c.Forget(alice)
		time.Sleep(10 * time.Hour)
		need(t, c, alice)
		time.Sleep(12 * time.Hour)
		require.Zero(t, meet.ahead())
	})
}

// A token that was forgotten while it was renewed does not come back.
func TestRenew_ForgottenMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet, store := &renewed{life: day}, newMemory()
		meet.begun = func(renewal bool) {
			if renewal {
				meet.client.Load().Forget(alice)
			}
		}
		c := renewing(t, meet, sharing(store))
		need(t, c, alice)
		time.Sleep(20 * time.Hour)
		require.Equal(t, 1, meet.ahead())
		require.Empty(t, store.keys())
		need(t, c, alice)
		waited, _ := meet.exchanges(alice.Mail)
		require.Equal(t, 2, waited)
	})
}

// What a client has kept, and has to renew, goes over to one that takes its place.
func TestRenew_GoesOverToTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet := &renewed{life: day}
		before := ahead(t, meet)
		first := need(t, before, alice)
		next := renewing(t, meet, func(o *backendclient.Options) { o.Previous = before })
		require.Equal(t, first.Value, need(t, next, alice).Value)
		time.Sleep(20 * time.Hour)
		require.NotEqual(t, first.Value, need(t, next, alice).Value)
		waited, ahead := meet.exchanges(alice.Mail)
		require.Equal(t, []int{1, 1}, []int{waited, ahead})

		for name, change := range map[string]func(*backendclient.Options){
			"another Meet": func(o *backendclient.Options) { o.Host = "other.example.org" },
			"another API":  func(o *backendclient.Options) { o.BasePath = "/other" },
			"another size": func(o *backendclient.Options) { o.MaxTokens = 10 },
		} {
			other := renewing(t, meet, func(o *backendclient.Options) { o.Previous = next }, change)
			require.Zero(t, other.Stats().Tokens, name)
		}
	})
}

// Renew ends with its context, in the middle of an exchange too, and leaves no lock.
func TestRenew_Ends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		meet, store := &renewed{life: day}, newMemory()
		ctx, cancel := context.WithCancel(t.Context())
		meet.begun = func(renewal bool) {
			if renewal {
				cancel()
			}
		}
		c, err := backendclient.New(backendclient.Options{
			Transport: meet, Host: host, Store: store,
			MayRenew: func(context.Context, backendclient.Caller) bool { return true },
			Detach: func(context.Context) context.Context {
				return context.WithValue(context.Background(), waitedFor{}, true)
			},
		})
		require.NoError(t, err)
		token := need(t, c, alice)
		c.Renew(ctx) // returns
		require.Equal(t, 1, meet.ahead())
		require.Empty(t, store.locks)
		require.Equal(t, token.Value, need(t, c, alice).Value)
		require.Zero(t, c.Stats().Renewals)
		require.Zero(t, c.Stats().Running)
	})
}

// Without somebody to ask, and where a renewal would take the only turn, there is none.
func TestRenew_Off(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*backendclient.Options){
		"nobody to ask": func(o *backendclient.Options) { o.MayRenew = nil },
		"one turn":      func(o *backendclient.Options) { o.MaxExchanges = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				meet := &renewed{life: day}
				c := renewing(t, meet, change)
				need(t, c, alice)
				time.Sleep(3 * day)
				require.Zero(t, meet.ahead())
			})
		})
	}
}

// TestRenew_CallersGoFirst: with any number of turns and any load, a renewal begins only
// where at least half of the turns stay free and no caller waits.
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
	turns := 2 + r.IntN(7)
	var mu sync.Mutex
	running, ahead := 0, 0
	draw := func(n int64) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(r.Int64N(n))
	}
	meet := &renewed{life: time.Hour}
	meet.begun = func(renewal bool) {
		mu.Lock()
		defer mu.Unlock()
		if renewal {
			if queued := meet.client.Load().Stats().Queued; 2*(turns-running-1) < turns || queued > 0 {
				t.Errorf("of %d turns %d are taken, %d wait, and a renewal begins", turns, running, queued)
			}
			ahead++
		}
		running++
	}
	meet.took = func() time.Duration { return draw(int64(5 * time.Second)) }
	over := func(renewal bool) {
		mu.Lock()
		defer mu.Unlock()
		if running > turns || ahead > turns/2 {
			t.Errorf("%d of %d turns are taken, %d by renewals", running, turns, ahead)
		}
		running--
		if renewal {
			ahead--
		}
	}
	meet.answer = func(_ string, renewal bool) (int, string) {
		over(renewal)
		return 0, ""
	}
	c := renewing(t, meet, func(o *backendclient.Options) { o.MaxExchanges = turns })

	var callers sync.WaitGroup
	for i := range 200 {
		mail := fmt.Sprintf("user%d@example.com", i)
		callers.Go(func() {
			time.Sleep(draw(int64(time.Hour))) // many new ones while others are due
			for range 30 {
				_, _ = c.Token(t.Context(), backendclient.Caller{Credentials: full, Mail: mail})
				time.Sleep(draw(int64(6 * time.Minute)))
			}
		})
	}
	callers.Wait()
	if c.Stats().Renewals.Exchanged < 50 {
		t.Errorf("%d renewals show nothing", c.Stats().Renewals.Exchanged)
	}
}
