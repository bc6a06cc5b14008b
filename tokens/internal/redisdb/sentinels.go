// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// sentinels find the primary of a group. A deposed primary goes on taking writes until the
// Sentinels have made it a replica, and its own answers do not show that it was deposed.
// So the Sentinels are asked before every connection, before every heartbeat, when one of
// them announces a change, and before a refusal or a write is confirmed.
//
// All are asked, and the answer with the highest epoch counts, which every failover
// increases. All are waited for, because the Sentinel that led a failover knows of it
// first; one that was silent the last time is not.
//
// An answer with a lower epoch than the known one is ignored: for seconds after a failover
// most Sentinels have not heard of it. Sentinels that were set up anew count from zero, so
// a majority that gives a lower epoch for acceptOlderAfter is believed.
//
// Without a majority the known primary counts if it can prove itself: see DB.followed.
type sentinels struct {
	group   string
	members []*sentinel
	conns   *connections
	// timeout bounds one round. It is half of the timeout for connecting, which a round is
	// part of, and at most maxRound.
	timeout time.Duration

	turn       chan struct{} // one round at a time; guards the three below
	began      time.Time     // when the last completed round began
	quorum     bool          // whether a majority answered it
	olderSince time.Time     // since when a majority has given a lower epoch; else zero
	running    sync.WaitGroup
	answering  atomic.Int32 // how many answered the last round
	watched    sync.Once

	mu      sync.Mutex
	primary primary // its address is "" until the first answer
	closed  bool
	feeds   []*redis.PubSub
}

// maxRound is well below a usual staleness bound.
const maxRound = 500 * time.Millisecond

// acceptOlderAfter is well above the two seconds in which Sentinels inform each other.
const acceptOlderAfter = 30 * time.Second

type sentinel struct {
	client *redis.Client
	busy   atomic.Bool // one question at a time, so that a silent one costs one connection
	silent atomic.Bool // whether it did not answer the last question in time
}

// primary is what a Sentinel says of the primary.
type primary struct {
	addr  string // host:port
	epoch uint64 // of the last failover, plus 1; 0 if unknown
	// replicas is the number of replicas plus 1; 0 if unknown. Sentinels count replicas
	// that are gone until SENTINEL RESET.
	replicas int
}

var (
	// ErrNoSentinel means that no Sentinel answered with a primary.
	ErrNoSentinel = errors.New("no Sentinel knows the primary")
	// ErrUndecided means that the Sentinels name different primaries.
	ErrUndecided = errors.New("the Sentinels contradict each other")
)

func newSentinels(u *redis.UniversalOptions, conns *connections) *sentinels {
	s := &sentinels{group: u.MasterName, conns: conns, timeout: min(u.DialTimeout/2, maxRound), turn: make(chan struct{}, 1)}
	for _, addr := range u.Addrs {
		s.members = append(s.members, &sentinel{client: redis.NewClient(&redis.Options{
			Addr: addr, Username: u.SentinelUsername, Password: u.SentinelPassword, TLSConfig: u.TLSConfig,
			ContextTimeoutEnabled: true,
			DialTimeout:           u.DialTimeout, ReadTimeout: u.ReadTimeout, WriteTimeout: u.WriteTimeout, PoolTimeout: u.PoolTimeout,
			DialerRetries: 1, MaxRetries: 1, PoolSize: 4, PipelinePoolSize: -1, ConnMaxIdleTime: u.ConnMaxIdleTime,
			ReadBufferSize: bufferSize, WriteBufferSize: bufferSize,
			DisableIdentity:          true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})})
	}
	return s
}

// dial opens a connection to the primary. The address that go-redis passes is a
// placeholder.
func (s *sentinels) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	s.watched.Do(s.watch)
	if _, err := s.update(ctx); err != nil {
		return nil, err
	}
	addr := s.current().addr
	if addr == "" {
		return nil, ErrNoSentinel
	}
	c, err := s.conns.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if s.current().addr != addr { // replaced meanwhile, before this connection could be dropped
		_ = c.Close()
		return nil, fmt.Errorf("connecting to %s: it is no longer the primary", addr)
	}
	return c, nil
}

func (s *sentinels) current() primary {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.primary
}

// update asks the Sentinels, and drops the connections to a former primary. Callers that
// wait share the next round. It reports whether a majority answered; if not, the known
// primary has to prove itself.
func (s *sentinels) update(ctx context.Context) (quorum bool, err error) {
	called := time.Now()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return false, fmt.Errorf("asking the Sentinels: %w", ctx.Err())
	}
	if s.began.After(called) {
		return s.quorum, nil // another round began and ended meanwhile
	}
	began := time.Now()
	answer, quorum, err := s.round(ctx)
	if err != nil && !errors.Is(err, ErrNoSentinel) {
		return false, err
	}
	s.began, s.quorum = began, quorum
	if err != nil {
		return false, nil
	}
	s.mu.Lock()
	changed := s.primary.addr != answer.addr
	s.primary = answer
	s.mu.Unlock()
	if changed {
		s.conns.drop(func(n *connection) bool { return n.addr != answer.addr })
	}
	return quorum, nil
}

// noteReplicas raises the number of replicas to what the primary itself has shown: a
// replica that the Sentinels have not counted yet could be promoted too.
func (s *sentinels) noteReplicas(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.primary.replicas > 0 {
		s.primary.replicas = max(s.primary.replicas, n+1)
	}
}

// run runs f in a goroutine that close waits for. It reports false after close.
func (s *sentinels) run(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Go(f)
	}
	return !s.closed
}

// round asks all Sentinels once, and reports whether a majority answered.
func (s *sentinels) round(ctx context.Context) (answer primary, quorum bool, err error) {
	answers, err := s.collect(ctx)
	if err != nil {
		return primary{}, false, err
	}
	s.answering.Store(int32(len(answers)))
	if len(answers) == 0 {
		return primary{}, false, ErrNoSentinel
	}
	quorum = 2*len(answers) > len(s.members)
	answer, err = newest(answers)
	if err != nil {
		return answer, quorum, err
	}
	known := s.current()
	if !quorum { // a minority may not have heard of the latest replicas
		answer.replicas = max(answer.replicas, known.replicas)
	}
	known.replicas = answer.replicas
	switch {
	case answer.epoch == 0 && known.epoch != 0 && !quorum:
		return known, quorum, nil
	case answer.epoch == 0 || answer.epoch >= known.epoch:
		s.olderSince = time.Time{}
		return answer, quorum, nil
	case s.acceptOlder(quorum):
		return answer, quorum, nil
	}
	return known, quorum, nil
}

// collect returns the answers of the Sentinels that answer.
func (s *sentinels) collect(ctx context.Context) ([]primary, error) {
	type reply struct {
		primary
		awaited bool
	}
	replies := make(chan reply, len(s.members))
	pending := 0
	for _, m := range s.members {
		if !m.busy.CompareAndSwap(false, true) {
			continue
		}
		awaited := !m.silent.Load()
		if !s.run(func() {
			defer m.busy.Store(false)
			// The connection is kept even if the caller stops waiting.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
			defer cancel()
			answer := m.ask(ctx, s.group)
			m.silent.Store(ctx.Err() != nil)
			replies <- reply{answer, awaited}
		}) {
			return nil, net.ErrClosed
		}
		if awaited {
			pending++
		}
	}
	var answers []primary
	for pending > 0 {
		select {
		case r := <-replies:
			if r.awaited {
				pending--
			}
			if r.addr != "" {
				answers = append(answers, r.primary)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("asking the Sentinels: %w", ctx.Err())
		}
	}
	return answers, nil
}

// acceptOlder reports whether an answer with a lower epoch than the known one counts.
func (s *sentinels) acceptOlder(majority bool) bool {
	switch {
	case !majority:
		return false
	case s.olderSince.IsZero():
		s.olderSince = time.Now()
		return false
	}
	return time.Since(s.olderSince) >= acceptOlderAfter
}

// newest returns the answer with the highest epoch. Of several, the most frequent counts.
func newest(answers []primary) (primary, error) {
	votes := map[string]int{}
	var best primary
	for _, a := range answers {
		best.epoch = max(best.epoch, a.epoch)
		best.replicas = max(best.replicas, a.replicas)
	}
	for _, a := range answers {
		if a.epoch == best.epoch {
			votes[a.addr]++
		}
	}
	most, tied := 0, false
	for addr, n := range votes {
		switch {
		case n > most:
			best.addr, most, tied = addr, n, false
		case n == most:
			tied = true
		}
	}
	if tied {
		return primary{}, ErrUndecided
	}
	return best, nil
}

// ask returns the answer of one Sentinel, without an address if there is none.
func (m *sentinel) ask(ctx context.Context, group string) primary {
	pipe := m.client.Pipeline()
	// The epoch first: an address that is newer than its epoch does no harm.
	state := redis.NewMapStringStringCmd(ctx, "sentinel", "master", group)
	_ = pipe.Process(ctx, state)
	addr := redis.NewStringSliceCmd(ctx, "sentinel", "get-master-addr-by-name", group)
	_ = pipe.Process(ctx, addr)
	_, _ = pipe.Exec(ctx) // each has its own error
	at, err := addr.Result()
	if err != nil || len(at) != 2 {
		return primary{}
	}
	answer := primary{addr: net.JoinHostPort(at[0], at[1])}
	if epoch, err := strconv.ParseUint(state.Val()["config-epoch"], 10, 64); err == nil { // the user may lack permission
		answer.epoch = epoch + 1
	}
	if replicas, err := strconv.Atoi(state.Val()["num-slaves"]); err == nil {
		answer.replicas = replicas + 1
	}
	return answer
}

// watch subscribes to the announcements of the Sentinels, so that a failover is known
// before the next heartbeat.
func (s *sentinels) watch() {
	ctx := context.Background()
	for _, m := range s.members {
		feed := m.client.Subscribe(ctx) // to no channel yet, so it does not connect
		s.mu.Lock()
		s.feeds = append(s.feeds, feed)
		s.mu.Unlock()
		s.run(func() {
			_ = feed.Subscribe(ctx, "+switch-master") // Channel retries
			for range feed.Channel() {
				ctx, cancel := context.WithTimeout(ctx, s.timeout)
				_, _ = s.update(ctx) // the next heartbeat retries
				cancel()
			}
		})
	}
}

// close ends the subscriptions and closes the connections to the Sentinels.
func (s *sentinels) close() error {
	s.mu.Lock()
	s.closed = true
	feeds := s.feeds
	s.mu.Unlock()
	var err error
	for _, f := range feeds {
		err = errors.Join(err, f.Close())
	}
	for _, m := range s.members {
		err = errors.Join(err, m.client.Close())
	}
	s.running.Wait()
	return err
}
