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

// Sentinels say which server of a group is the primary. A primary that they have
// replaced goes on answering, and taking writes, until they have made it a
// replica: seconds with the usual settings, longer if it is cut off from them.
// Nothing that it says itself tells that it was replaced, so the Sentinels are
// asked: before every connection, before every heartbeat, whenever one of them
// announces a change, before anybody is turned away for what Redis says, and
// before a token that was written is handed out.
//
// All of them are asked, and the one with the newest configuration is believed:
// every failover counts an epoch up, so one that was away, or cut off with the
// old primary, is told from the others. All are waited for, but for those that
// have kept silent the last time: the one that led a failover knows of it first.
//
// The way back is not taken: for seconds after a failover most Sentinels have not
// heard of it, and what would be written to the old primary by going back to it
// is lost. Only a majority that says so for goBack on end is believed though it is
// older: Sentinels that were set up anew count from the beginning.
//
// When fewer than a majority answer, what was known goes on to count, and has to be
// proven otherwise: the others may have replaced the primary, and this gateway may
// be cut off from them together with it. Every failover promotes a replica, and
// that follows the old primary no longer. So the primary is believed as long as all
// its replicas follow it (see DB.followed). Sentinels that are away, and nothing
// else, are no outage.
type sentinels struct {
	group   string
	members []*sentinel
	conns   *connections
	// patience bounds one round. It is half of what connecting may take, of which
	// it is a part, and at most maxPatience.
	patience time.Duration

	asking  chan struct{} // one round at a time; guards the three below
	began   time.Time     // when the last round began that came to an end
	quorum  bool          // whether a majority answered then
	older   time.Time     // since when a majority is older than what is known; zero if it is not
	running sync.WaitGroup
	// answering is how many answered in the last round.
	answering atomic.Int32
	watched   sync.Once

	mu      sync.Mutex
	primary sentinelAnswer // what counts; its address is "" if it was never known
	closed  bool
	feeds   []*redis.PubSub
}

// maxPatience is well below a usual staleness bound: so long is waited for
// Sentinels that fall silent.
const maxPatience = 500 * time.Millisecond

// goBack is well above the two seconds in which Sentinels tell each other.
const goBack = 30 * time.Second

type sentinel struct {
	client *redis.Client
	busy   atomic.Bool // one question at a time, so that a silent one costs one connection
	silent atomic.Bool // whether it was waited for in vain the last time
}

// sentinelAnswer is who is the primary, since which failover, and who could be
// the next.
type sentinelAnswer struct {
	addr  string // host:port
	epoch uint64 // counted from 1; 0 if the Sentinel does not tell
	// replicas is how many replicas there are, counted from 1; 0 if the Sentinel
	// does not tell. Those that are gone count until SENTINEL RESET.
	replicas int
}

var (
	// ErrNoSentinel means that no Sentinel answered with a primary.
	ErrNoSentinel = errors.New("no Sentinel knows the primary")
	// ErrUndecided means that they name different primaries.
	ErrUndecided = errors.New("the Sentinels contradict each other")
)

func newSentinels(u *redis.UniversalOptions, conns *connections) *sentinels {
	s := &sentinels{group: u.MasterName, conns: conns, patience: min(u.DialTimeout/2, maxPatience), asking: make(chan struct{}, 1)}
	for _, addr := range u.Addrs {
		s.members = append(s.members, &sentinel{client: redis.NewClient(&redis.Options{
			Addr: addr, Username: u.SentinelUsername, Password: u.SentinelPassword, TLSConfig: u.TLSConfig,
			ContextTimeoutEnabled: true,
			DialTimeout:           u.DialTimeout, ReadTimeout: u.ReadTimeout, WriteTimeout: u.WriteTimeout, PoolTimeout: u.PoolTimeout,
			DialerRetries: 1, MaxRetries: 1, PoolSize: 4, PipelinePoolSize: -1, ConnMaxIdleTime: u.ConnMaxIdleTime,
			DisableIdentity:          true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})})
	}
	return s
}

// dial opens a connection to the primary. go-redis's idea of the address is a
// placeholder.
func (s *sentinels) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	s.watched.Do(s.watch)
	if _, err := s.ask(ctx); err != nil {
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
	if s.current().addr != addr { // it was replaced meanwhile, and who dropped the others missed this one
		_ = c.Close()
		return nil, fmt.Errorf("connecting to %s: it is the primary no longer", addr)
	}
	return c, nil
}

func (s *sentinels) current() sentinelAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.primary
}

// ask makes sure that connections lead to what is the primary now: at the time
// of the call or later. It reports whether a majority of the Sentinels answered;
// if not, what was known counts, and has to be proven.
func (s *sentinels) ask(ctx context.Context) (quorum bool, err error) {
	called := time.Now()
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return false, fmt.Errorf("asking the Sentinels: %w", ctx.Err())
	}
	if s.began.After(called) {
		return s.quorum, nil // a round that began while this call waited
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

// saw notes how many replicas the primary itself has shown: one that the
// Sentinels have not counted yet could be the next primary too.
func (s *sentinels) saw(replicas int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.primary.replicas > 0 {
		s.primary.replicas = max(s.primary.replicas, replicas+1)
	}
}

// run runs f, which close waits for. It reports false after close.
func (s *sentinels) run(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Go(f)
	}
	return !s.closed
}

// round asks all Sentinels once, and reports whether a majority answered.
func (s *sentinels) round(ctx context.Context) (answer sentinelAnswer, quorum bool, err error) {
	given, err := s.gather(ctx)
	if err != nil {
		return sentinelAnswer{}, false, err
	}
	s.answering.Store(int32(len(given)))
	if len(given) == 0 {
		return sentinelAnswer{}, false, ErrNoSentinel
	}
	quorum = 2*len(given) > len(s.members)
	a, err := newest(given)
	if err != nil {
		return a, quorum, err
	}
	known := s.current()
	// A minority may not have heard of the latest replicas.
	if !quorum {
		a.replicas = max(a.replicas, known.replicas)
	}
	known.replicas = a.replicas
	switch {
	case a.epoch == 0 && known.epoch != 0 && !quorum:
		return known, quorum, nil
	case !a.olderThan(known):
		s.older = time.Time{}
		return a, quorum, nil
	case !s.mayGoBack(quorum):
		return known, quorum, nil
	}
	return a, quorum, nil
}

// gather returns what the Sentinels say that say anything.
func (s *sentinels) gather(ctx context.Context) ([]sentinelAnswer, error) {
	type answer struct {
		sentinelAnswer
		awaited bool
	}
	answers := make(chan answer, len(s.members))
	pending := 0
	for _, m := range s.members {
		if !m.busy.CompareAndSwap(false, true) {
			continue
		}
		awaited := !m.silent.Load()
		if !s.run(func() {
			defer m.busy.Store(false)
			// The caller may not wait for it, and its connection is worth keeping.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.patience)
			defer cancel()
			said := m.ask(ctx, s.group)
			m.silent.Store(ctx.Err() != nil)
			answers <- answer{said, awaited}
		}) {
			return nil, net.ErrClosed
		}
		if awaited {
			pending++
		}
	}
	var given []sentinelAnswer
	for pending > 0 {
		select {
		case a := <-answers:
			if a.awaited {
				pending--
			}
			if a.addr != "" {
				given = append(given, a.sentinelAnswer)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("asking the Sentinels: %w", ctx.Err())
		}
	}
	return given, nil
}

// olderThan reports whether an answer is about an earlier failover, as far as it
// tells.
func (a sentinelAnswer) olderThan(b sentinelAnswer) bool { return a.epoch != 0 && a.epoch < b.epoch }

// mayGoBack reports whether an answer counts that is older than what is known.
func (s *sentinels) mayGoBack(majority bool) bool {
	switch {
	case !majority:
		return false
	case s.older.IsZero():
		s.older = time.Now()
		return false
	}
	return time.Since(s.older) >= goBack
}

// newest returns the answer of the latest failover, and of several about the
// same the one that is given more often.
func newest(given []sentinelAnswer) (sentinelAnswer, error) {
	votes := map[string]int{}
	var latest uint64
	replicas := 0
	for _, a := range given {
		latest = max(latest, a.epoch)
		replicas = max(replicas, a.replicas)
	}
	for _, a := range given {
		if a.epoch == latest {
			votes[a.addr]++
		}
	}
	best, count, tied := "", 0, false
	for addr, n := range votes {
		switch {
		case n > count:
			best, count, tied = addr, n, false
		case n == count:
			tied = true
		}
	}
	if tied {
		return sentinelAnswer{}, ErrUndecided
	}
	return sentinelAnswer{best, latest, replicas}, nil
}

// ask returns what one Sentinel says; no address if it says nothing.
func (m *sentinel) ask(ctx context.Context, group string) sentinelAnswer {
	pipe := m.client.Pipeline()
	// The epoch first: with an address that is newer than it no harm is done.
	state := redis.NewMapStringStringCmd(ctx, "sentinel", "master", group)
	_ = pipe.Process(ctx, state)
	addr := redis.NewStringSliceCmd(ctx, "sentinel", "get-master-addr-by-name", group)
	_ = pipe.Process(ctx, addr)
	_, _ = pipe.Exec(ctx) // each has its own error
	at, err := addr.Result()
	if err != nil || len(at) != 2 {
		return sentinelAnswer{}
	}
	answer := sentinelAnswer{addr: net.JoinHostPort(at[0], at[1])}
	if epoch, err := strconv.ParseUint(state.Val()["config-epoch"], 10, 64); err == nil { // not everybody may ask for it
		answer.epoch = epoch + 1
	}
	if replicas, err := strconv.Atoi(state.Val()["num-slaves"]); err == nil {
		answer.replicas = replicas + 1
	}
	return answer
}

// watch listens to the Sentinels: what they announce is known at once and not
// at the next heartbeat.
func (s *sentinels) watch() {
	ctx := context.Background()
	for _, m := range s.members {
		feed := m.client.Subscribe(ctx) // to nothing yet, which connects to nobody
		s.mu.Lock()
		s.feeds = append(s.feeds, feed)
		s.mu.Unlock()
		s.run(func() {
			_ = feed.Subscribe(ctx, "+switch-master") // Channel tries again
			for range feed.Channel() {
				ctx, cancel := context.WithTimeout(ctx, s.patience)
				_, _ = s.ask(ctx) // the next heartbeat asks again
				cancel()
			}
		})
	}
}

// close ends the listening.
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
