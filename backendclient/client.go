// SPDX-License-Identifier: MIT

package backendclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Options configures a [Client]. Transport and Host are required.
type Options struct {
	// Transport carries requests to Meet. It must not follow redirects (no
	// RoundTripper does). The URL of a request names Host; a transport that is to
	// dial another address changes it: each request is made for one trip and
	// belongs to the transport. Failures of a transport that is a proxy are best
	// reported as *TransportError.
	Transport http.RoundTripper

	// Context, if set, makes the context of each request to Meet out of the caller's,
	// for a transport that keeps something of its own there.
	Context func(context.Context) context.Context

	// Detach, if set, makes the context of an exchange out of that of the caller who
	// came first: without its end, and with what is to be kept of its values. Default:
	// none are.
	Detach func(context.Context) context.Context

	// BasePath is the prefix of the API at Meet, default "/external-api/v1.0".
	BasePath string

	// Host is sent as Host header: Meet's public name, one of its ALLOWED_HOSTS,
	// with the port if it is not the default one.
	Host string

	// Store shares tokens between processes; nil works alone.
	Store TokenStore

	// MaxExchanges is how many exchanges run at once at this backend, default 2:
	// each costs Meet a second of CPU and a worker. One that waits longer than
	// ExchangeTimeout fails with ErrBusy. Applications have their turns one after the
	// other, however many users each of them asks for.
	MaxExchanges int

	// ExchangeTimeout bounds one exchange, default 15 s.
	ExchangeTimeout time.Duration

	// RequestTimeout bounds one request for rooms, default 10 s. A call that
	// makes several requests takes as many times that at most.
	RequestTimeout time.Duration

	// MaxBody bounds the answer that is read, in bytes, default 4 MiB.
	MaxBody int64

	// MaxTokens is how many tokens are kept in this process, default 16384
	// (about 1 kB each). Beyond it the oldest makes room.
	MaxTokens int

	// Before is a client whose tokens this one goes on with, if it is for the same Meet
	// and keeps as many. The two may be used side by side.
	Before *Client

	// PageWorkers is how many pages of one list are fetched at once, default 4.
	PageWorkers int

	// MayRenew has [Client.Renew] renew tokens, and says for whom: a caller without
	// anything but what makes it, and the application that last used the token.
	MayRenew func(context.Context, Caller) bool

	// RenewFor is how long after a user's last request tokens are renewed, default 24 h.
	// One of less than 12 h of use is renewed for users of the last quarter of that.
	RenewFor time.Duration

	// Now is the clock for lifetimes, default time.Now.
	Now func() time.Time

	// OnExchange is called after every exchange with its outcome, a word of
	// Reasons, and the time it took, waiting for its turn included. It may be
	// called from several goroutines at once.
	OnExchange func(outcome string, took time.Duration)
}

// Client calls Meet's external API. It is safe for concurrent use. It has
// nothing to close: what it still has under way when it is dropped ends by its
// timeouts, and [Client.Renew] with its context.
type Client struct {
	transport       http.RoundTripper
	context         func(context.Context) context.Context
	detach          func(context.Context) context.Context
	base            string
	host            string
	store           TokenStore
	exchangeTimeout time.Duration
	requestTimeout  time.Duration
	timeoutPool     *timeoutPool
	maxBody         int64
	pageWorkers     int
	now             func() time.Time
	onExchange      func(outcome string, took time.Duration)

	counters counters
	seen     notebook

	mayRenew func(context.Context, Caller) bool
	renewFor time.Duration
	agenda   *agenda
	paused   *cache[Credentials, time.Time] // applications that Meet refused to renew for, until when
	renewals renewalCounters

	turns   *fairQueue // of exchanges
	flights singleflight.Group
	waiters waiters

	tokens     *cache[identity, *Token]
	refusals   *cache[identity, *Error]    // callers Meet has just refused
	broken     *cache[Credentials, *Error] // applications Meet has just refused
	distrusted *cache[identity, string]    // tokens Meet has just refused
	suspected  *cache[identity, struct{}]  // callers whose token was renewed after a server error
	lacking    *cache[identity, struct{}]  // callers whose token was just fetched anew for a scope
	disabled   *cache[string, *Error]      // sessions of users whom Meet has just called disabled

	counts          *cache[identity, int] // of users' rooms, as their last list said
	pageSize        atomic.Int64          // of Meet's list when not asked for another
	honoursPageSize atomic.Bool           // Meet has been seen to take page_size
}

const (
	defaultBasePath        = "/external-api/v1.0"
	defaultMaxExchanges    = 2
	defaultExchangeTimeout = 15 * time.Second
	defaultRequestTimeout  = 10 * time.Second
	defaultMaxBody         = 4 << 20
	defaultMaxTokens       = 16384
	defaultPageWorkers     = 4
	defaultRenewFor        = 24 * time.Hour

	maxRemembered = 4096 // refusals and the like: short-lived, so few
)

// check refuses options that no client can work with.
func (o Options) check() error {
	if o.Transport == nil {
		return errors.New("a transport is required")
	}
	if o.Host == "" || strings.ContainsAny(o.Host, " \t\r\n/@?#\\") {
		return fmt.Errorf("host %q: must be meet's public host name", o.Host)
	}
	if o.BasePath != "" && !canonical(o.BasePath+"/") {
		return fmt.Errorf("base path %q: must be an absolute path without empty or dot segments", o.BasePath)
	}
	if o.MaxExchanges < 0 || o.MaxTokens < 0 || o.PageWorkers < 0 || o.MaxBody < 0 || o.ExchangeTimeout < 0 || o.RequestTimeout < 0 || o.RenewFor < 0 {
		return errors.New("limits and timeouts must not be negative")
	}
	return nil
}

// New makes a client. It makes no request.
func New(o Options) (*Client, error) {
	o.BasePath = strings.TrimRight(cmp.Or(o.BasePath, defaultBasePath), "/")
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Context == nil {
		o.Context = func(ctx context.Context) context.Context { return ctx }
	}
	if o.Detach == nil {
		o.Detach = func(context.Context) context.Context { return context.Background() }
	}

	c := &Client{
		transport:       o.Transport,
		context:         o.Context,
		detach:          o.Detach,
		base:            o.BasePath,
		host:            o.Host,
		store:           o.Store,
		exchangeTimeout: cmp.Or(o.ExchangeTimeout, defaultExchangeTimeout),
		requestTimeout:  cmp.Or(o.RequestTimeout, defaultRequestTimeout),
		maxBody:         cmp.Or(o.MaxBody, defaultMaxBody),
		pageWorkers:     cmp.Or(o.PageWorkers, defaultPageWorkers),
		now:             o.Now,
		onExchange:      o.OnExchange,
		mayRenew:        o.MayRenew,
		renewFor:        cmp.Or(o.RenewFor, defaultRenewFor),
		agenda:          &agenda{limit: cmp.Or(o.MaxTokens, defaultMaxTokens)},
		paused:          newCache[Credentials, time.Time](maxRemembered),
		turns:           newFairQueue(cmp.Or(o.MaxExchanges, defaultMaxExchanges)),
		tokens:          newCache[identity, *Token](cmp.Or(o.MaxTokens, defaultMaxTokens)),
		refusals:        newCache[identity, *Error](maxRemembered),
		broken:          newCache[Credentials, *Error](maxRemembered),
		distrusted:      newCache[identity, string](maxRemembered),
		suspected:       newCache[identity, struct{}](maxRemembered),
		lacking:         newCache[identity, struct{}](maxRemembered),
		disabled:        newCache[string, *Error](maxRemembered),
		counts:          newCache[identity, int](maxRemembered),
	}
	if b := o.Before; b != nil && b.host == c.host && b.base == c.base && b.tokens.limit == c.tokens.limit {
		c.tokens, c.distrusted, c.agenda = b.tokens, b.distrusted, b.agenda
	}
	c.timeoutPool = newTimeoutPool(c.requestTimeout)
	c.pageSize.Store(meetPageSize)
	return c, nil
}
