// SPDX-License-Identifier: MIT

package backendclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// memory is a TokenStore in memory. Its clock decides when values expire.
type memory struct {
	now func() time.Time

	mu     sync.Mutex
	free   *sync.Cond // no lock is held
	values map[string][]byte
	until  map[string]time.Time
	locks  map[string]bool
	saves  int
	drops  int
	err    error // returned by every method if it is set
}

func newMemory() *memory {
	m := &memory{now: time.Now, values: map[string][]byte{}, until: map[string]time.Time{}, locks: map[string]bool{}}
	m.free = sync.NewCond(&m.mu)
	return m
}

func (m *memory) LoadMeetToken(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil || !m.now().Before(m.until[key]) {
		return nil, m.err
	}
	return m.values[key], nil
}

func (m *memory) SaveMeetToken(_ context.Context, key string, value []byte, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.saves++
		m.values[key], m.until[key] = value, m.now().Add(ttl)
	}
	return m.err
}

func (m *memory) DropMeetToken(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil && bytes.Equal(m.values[key], value) {
		m.drops++
		delete(m.values, key)
	}
	return m.err
}

func (m *memory) LockMeetToken(_ context.Context, key string, _ time.Duration) (func(), bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil || m.locks[key] {
		return nil, false, m.err
	}
	m.locks[key] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.locks, key)
		m.free.Broadcast()
	}, true, nil
}

func (m *memory) LoadOrLockMeetToken(ctx context.Context, key string, ttl time.Duration) ([]byte, func(), error) {
	value, err := m.LoadMeetToken(ctx, key)
	if value != nil || err != nil {
		return value, nil, err
	}
	unlock, _, err := m.LockMeetToken(ctx, key, ttl)
	return nil, unlock, err
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// settle waits until no lock is held. Callers return before their token is saved and their
// lock is released.
func (m *memory) settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.locks) > 0 {
		m.free.Wait()
	}
}

func (m *memory) keys() []string {
	m.settle()
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for k := range m.values {
		keys = append(keys, k)
	}
	return keys
}

func withStore(store backendclient.TokenStore) func(*backendclient.Options) {
	return func(o *backendclient.Options) { o.Store = store }
}

// Sixteen concurrent first requests cause one exchange, in one process or in several that
// share a store.
func TestToken_OneExchangeForAll(t *testing.T) {
	t.Parallel()
	for name, clients := range map[string]int{"one process": 1, "two processes": 2, "four processes": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := sandbox.Production()
			settings.ExchangeDelay = 100 * time.Millisecond
			meet := newMeet(settings)
			store := newMemory()
			var cs []*backendclient.Client
			for range clients {
				cs = append(cs, newClient(t, meet, withStore(store)))
			}
			var wg sync.WaitGroup
			tokens := make([]*backendclient.Token, 16)
			errs := make([]error, 16)
			for i := range 16 {
				wg.Go(func() { tokens[i], errs[i] = cs[i%clients].Token(context.Background(), alice) })
			}
			wg.Wait()
			for i := range 16 {
				require.NoError(t, errs[i])
				require.Equal(t, tokens[0].Value(), tokens[i].Value())
				require.Equal(t, tokens[0].Scopes(), tokens[i].Scopes())
				require.Equal(t, tokens[0].UserID(), tokens[i].UserID())
				require.True(t, tokens[0].Expires().Equal(tokens[i].Expires()))
			}
			require.Equal(t, 1, meet.Exchanges())
		})
	}
}

// Callers that differ in application, secret or mail address have separate tokens.
func TestToken_DistinctCallers(t *testing.T) {
	t.Parallel()
	store := newMemory()
	settings := sandbox.Quickstart()
	settings.AnyApplication = true
	meet := newMeet(settings)
	c := newClient(t, meet, withStore(store))
	callers := []backendclient.Caller{
		alice,
		bob,
		{Credentials: backendclient.Credentials{ClientID: "app", ClientSecret: "ab"}, Mail: "c@example.com"},
		{Credentials: backendclient.Credentials{ClientID: "appa", ClientSecret: "b"}, Mail: "c@example.com"},
		{Credentials: backendclient.Credentials{ClientID: "app", ClientSecret: "a"}, Mail: "bc@example.com"},
	}
	for _, caller := range callers {
		_, err := c.Token(context.Background(), caller)
		require.NoError(t, err)
		again := caller
		again.RequestID = "another request"
		_, err = c.Token(context.Background(), again)
		require.NoError(t, err)
	}
	require.Equal(t, len(callers), meet.Exchanges())
	require.Len(t, store.keys(), len(callers))
	for _, key := range store.keys() {
		require.Regexp(t, `^[0-9a-f]{64}$`, key)
	}
}

// If the first caller leaves before the exchange is done, the others still get the token.
func TestToken_FirstWaiterLeaves(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered) // a second exchange panics
		<-release
		respond(200, "application/json", `{"access_token":"a.b.c","expires_in":3600}`).ServeHTTP(w, r)
	})
	c := newClient(t, h)
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error, 1)
	go func() {
		_, err := c.Token(ctx, alice)
		first <- err
	}()
	<-entered
	second := make(chan error, 1)
	go func() {
		_, err := c.Token(context.Background(), alice)
		second <- err
	}()
	cancel()
	err := <-first
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "canceled", backendclient.Reason(err))
	close(release)
	require.NoError(t, <-second)

	expired, stop := context.WithTimeout(context.Background(), -1)
	defer stop()
	_, err = c.Token(expired, alice)
	require.NoError(t, err, "a kept token is returned without waiting")
}

// A token is kept until shortly before it expires.
func TestToken_Lifetime(t *testing.T) {
	t.Parallel()
	for life, usable := range map[time.Duration]time.Duration{
		time.Hour:        54 * time.Minute,
		10 * time.Minute: 9 * time.Minute,
		time.Minute:      30 * time.Second,
		2 * time.Second:  time.Second,
	} {
		t.Run(life.String(), func(t *testing.T) {
			t.Parallel()
			now := newClock()
			settings := sandbox.Production()
			settings.JWTExpiration = life
			meet := newMeet(settings, sandbox.WithClock(now.Now))
			store := newMemory()
			store.now = now.Now
			a, b := newClient(t, meet, withClock(now), withStore(store)), newClient(t, meet, withClock(now), withStore(store))
			ctx := context.Background()
			_, err := a.Token(ctx, alice)
			require.NoError(t, err)

			now.Advance(usable - time.Millisecond)
			_, err = a.Token(ctx, alice)
			require.NoError(t, err)
			_, err = b.Token(ctx, alice)
			require.NoError(t, err)
			require.Equal(t, 1, meet.Exchanges())

			now.Advance(time.Millisecond)
			_, err = b.Token(ctx, alice)
			require.NoError(t, err)
			_, err = a.Token(ctx, alice)
			require.NoError(t, err)
			require.Equal(t, 2, meet.Exchanges())
		})
	}
}

// A token without a lifetime serves the current request and is not kept.
func TestToken_WithoutLifetime(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"access_token":"a.b.c","expires_in":0}`, `{"access_token":"a.b.c"}`} {
		var exchanges atomic.Int32
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/token/") {
				exchanges.Add(1)
				respond(200, "application/json", body).ServeHTTP(w, r)
				return
			}
			empty.ServeHTTP(w, r)
		})
		store := newMemory()
		c := newClient(t, h, withStore(store))
		for range 2 {
			a, err := c.Send(context.Background(), alice, getRooms)
			require.NoError(t, err)
			require.Equal(t, 200, a.Status)
		}
		require.EqualValues(t, 2, exchanges.Load())
		require.Zero(t, store.saves)
	}
}

// Each kind of refusal is remembered for its own duration. Other failures are not remembered.
func TestToken_RemembersRefusals(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	for name, row := range map[string]struct {
		caller   backendclient.Caller
		handler  http.Handler // instead of the sandbox
		kind     error
		remember time.Duration
	}{
		"unknown user":   {caller: backendclient.Caller{Credentials: full, Mail: "nobody@example.com"}, kind: backendclient.ErrUserNotFound, remember: 2 * time.Second},
		"not a mail":     {caller: backendclient.Caller{Credentials: full, Mail: "nobody"}, kind: backendclient.ErrInvalidMail, remember: 5 * time.Second},
		"duplicate mail": {caller: backendclient.Caller{Credentials: full, Mail: "dup@example.com"}, kind: backendclient.ErrDuplicateUser, remember: 30 * time.Second},
		"refused domain": {
			caller: backendclient.Caller{Credentials: backendclient.Credentials{ClientID: "app-domain", ClientSecret: "test-secret-domain-0007"}, Mail: "alice@example.com"},
			kind:   backendclient.ErrDomainRefused, remember: 5 * time.Second,
		},
		"wrong secret": {
			caller: backendclient.Caller{Credentials: backendclient.Credentials{ClientID: "app-full", ClientSecret: "wrong"}, Mail: "alice@example.com"},
			kind:   backendclient.ErrBackendCredentials, remember: 5 * time.Second,
		},
		"inactive application": {
			caller: backendclient.Caller{Credentials: backendclient.Credentials{ClientID: "app-inactive", ClientSecret: "test-secret-inactive-0006"}, Mail: "alice@example.com"},
			kind:   backendclient.ErrApplicationInactive, remember: 5 * time.Second,
		},
		"conflict":     {caller: alice, handler: respond(409, "application/json", `{"error":"x"}`), kind: backendclient.ErrProvisioningConflict, remember: 2 * time.Second},
		"server error": {caller: alice, handler: html500, kind: backendclient.ErrBadAnswer},
		"unavailable":  {caller: alice, handler: respond(503, "", ""), kind: backendclient.ErrUnavailable},
		"throttled":    {caller: alice, handler: respond(429, "", ""), kind: backendclient.ErrBusy},
		"wrong host":   {caller: alice, handler: htmlBad, kind: backendclient.ErrMisconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := newClock()
			var exchanges atomic.Int32
			var h http.Handler = meet
			if row.handler != nil {
				h = row.handler
			}
			c := newClient(t, h, withClock(now), func(o *backendclient.Options) {
				o.OnExchange = func(string, time.Duration) { exchanges.Add(1) }
			})
			ask := func() {
				_, err := c.Token(context.Background(), row.caller)
				require.ErrorIs(t, err, row.kind)
			}
			ask()
			if row.remember == 0 {
				ask()
				require.EqualValues(t, 2, exchanges.Load())
				return
			}
			now.Advance(row.remember - time.Millisecond)
			ask()
			require.EqualValues(t, 1, exchanges.Load())
			now.Advance(time.Millisecond)
			ask()
			require.EqualValues(t, 2, exchanges.Load())
			c.Forget(row.caller)
			ask()
			require.EqualValues(t, 3, exchanges.Load())
		})
	}
}

// Refused credentials are remembered for all users, but only for these credentials.
func TestToken_RefusedCredentials(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	c := newClient(t, meet)
	wrong := backendclient.Credentials{ClientID: "app-full", ClientSecret: "wrong"}
	for i := range 5 {
		_, err := c.Token(context.Background(), backendclient.Caller{Credentials: wrong, Mail: fmt.Sprintf("user%d@example.com", i)})
		require.ErrorIs(t, err, backendclient.ErrBackendCredentials)
	}
	require.Equal(t, 1, meet.Exchanges())
	_, err := c.Token(context.Background(), alice)
	require.NoError(t, err)
}

func TestForget(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	store := newMemory()
	a, b := newClient(t, meet, withStore(store)), newClient(t, meet, withStore(store))
	ctx := context.Background()
	_, err := a.Token(ctx, alice)
	require.NoError(t, err)

	a.Forget(alice)
	require.Empty(t, store.keys())
	_, err = b.Token(ctx, alice)
	require.NoError(t, err)
	require.Equal(t, 2, meet.Exchanges())

	store.fail(errors.New("store unavailable"))
	a.Forget(alice)
	b.Forget(alice)
	_, err = b.Token(ctx, alice)
	require.NoError(t, err)
	require.Equal(t, 3, meet.Exchanges())
}

// If every call to the store fails, the client makes one exchange for all waiting callers of
// its process.
func TestToken_StoreUnavailable(t *testing.T) {
	t.Parallel()
	settings := sandbox.Production()
	settings.ExchangeDelay = 50 * time.Millisecond
	meet := newMeet(settings)
	store := newMemory()
	store.fail(errors.New("store unavailable"))
	c := newClient(t, meet, withStore(store))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			a, err := c.Send(context.Background(), bob, getRooms)
			if err != nil || a.Status != 200 {
				t.Errorf("answer %v, error %v", a, err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, meet.Exchanges())
}

// A stored value that this version did not write is overwritten.
func TestToken_StoreHoldsUnknownValue(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	store := newMemory()
	c := newClient(t, meet, withStore(store))
	_, err := c.Token(context.Background(), alice)
	require.NoError(t, err)
	key := store.keys()[0]
	good := store.values[key]
	for _, value := range []string{"", "{}", `{"v":1,"t":"a b"}`, `{"v":99,"t":"abc"}`, "\x00\xff"} {
		require.NoError(t, store.SaveMeetToken(context.Background(), key, []byte(value), time.Hour))
		_, err := newClient(t, meet, withStore(store)).Token(context.Background(), alice)
		require.NoError(t, err)
		store.settle()
		require.Len(t, store.values[key], len(good))
	}
	require.Equal(t, 6, meet.Exchanges())
}

// If another process holds the lock and never releases it, the client still gets a token.
func TestToken_LockOfDeadProcess(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	store := newMemory()
	first := newClient(t, meet, withStore(store))
	_, err := first.Token(context.Background(), alice)
	require.NoError(t, err)
	key := store.keys()[0]
	first.Forget(alice)
	_, acquired, err := store.LockMeetToken(context.Background(), key, time.Hour)
	require.NoError(t, err)
	require.True(t, acquired)

	c := newClient(t, meet, withStore(store), func(o *backendclient.Options) { o.ExchangeTimeout = 500 * time.Millisecond })
	_, err = c.Token(context.Background(), alice)
	require.NoError(t, err)
}

// If the process with the lock fails, a waiting process takes over.
func TestToken_LockHolderFails(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	store := newMemory()
	entered, release := make(chan struct{}), make(chan struct{})
	failing := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		html500.ServeHTTP(w, r)
	}), withStore(store))
	failed := make(chan error, 1)
	go func() {
		_, err := failing.Token(context.Background(), alice)
		failed <- err
	}()
	<-entered
	waits := newClient(t, meet, withStore(store))
	waiting := make(chan error, 1)
	go func() {
		_, err := waits.Token(context.Background(), alice)
		waiting <- err
	}()
	close(release)
	require.ErrorIs(t, <-failed, backendclient.ErrBadAnswer)
	require.NoError(t, <-waiting)
	require.Equal(t, 1, meet.Exchanges())
}

// A token that another process saves between this client's load and lock is used.
func TestToken_SavedBeforeLock(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	store := newMemory()
	other := newClient(t, meet, withStore(store))
	c := newClient(t, meet, withStore(lockRace{store, func() {
		_, err := other.Token(context.Background(), alice)
		require.NoError(t, err)
	}}))
	_, err := c.Token(context.Background(), alice)
	require.NoError(t, err)
	require.Equal(t, 1, meet.Exchanges())
	store.settle()
}

// lockRace is a store that calls before ahead of each lock.
type lockRace struct {
	*memory
	before func()
}

func (o lockRace) LockMeetToken(ctx context.Context, key string, ttl time.Duration) (func(), bool, error) {
	o.before()
	return o.memory.LockMeetToken(ctx, key, ttl)
}

// A refused token is not loaded from the store again, even if the store did not drop it. Other
// processes use the new token.
func TestSend_RefusedTokenIsNotReused(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	store := newMemory()
	a, b := newClient(t, meet, withStore(store)), newClient(t, meet, withStore(store))
	ctx := context.Background()
	for _, c := range []*backendclient.Client{a, b} {
		_, err := c.Send(ctx, carol, getRooms)
		require.NoError(t, err)
	}
	require.Equal(t, 1, meet.Exchanges())
	meet.MergeUsers(carol.Mail)

	_, err := a.Send(ctx, carol, getRooms)
	require.NoError(t, err)
	require.Equal(t, 2, meet.Exchanges())
	require.Equal(t, 1, store.drops)
	_, err = b.Send(ctx, carol, getRooms)
	require.NoError(t, err)
	require.Equal(t, 2, meet.Exchanges(), "b uses the token that a fetched")

	// A read-only store keeps the refused token.
	stale := newMemory()
	key := store.keys()[0]
	require.NoError(t, stale.SaveMeetToken(ctx, key, store.values[key], time.Hour))
	c := newClient(t, meet, withStore(readOnly{stale}))
	_, err = c.Send(ctx, carol, getRooms)
	require.NoError(t, err)
	require.Equal(t, 2, meet.Exchanges())
	meet.MergeUsers(carol.Mail)
	for range 3 {
		_, err = c.Send(ctx, carol, getRooms)
		require.NoError(t, err)
	}
	require.Equal(t, 3, meet.Exchanges())
}

type readOnly struct{ *memory }

func (readOnly) SaveMeetToken(context.Context, string, []byte, time.Duration) error {
	return errors.New("read only")
}

func (readOnly) DropMeetToken(context.Context, string, []byte) error { return errors.New("read only") }

// The oldest token is evicted first, and fetched again when it is needed.
func TestToken_EvictsOldest(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Quickstart())
	c := newClient(t, meet, func(o *backendclient.Options) { o.MaxTokens = 3 })
	ask := func(n int) {
		_, err := c.Token(context.Background(), backendclient.Caller{Credentials: full, Mail: fmt.Sprintf("user%d@example.com", n)})
		require.NoError(t, err)
	}
	for n := range 4 {
		ask(n)
	}
	require.Equal(t, 4, meet.Exchanges())
	ask(1)
	ask(2)
	ask(3)
	require.Equal(t, 4, meet.Exchanges())
	ask(0)
	require.Equal(t, 5, meet.Exchanges())
}
