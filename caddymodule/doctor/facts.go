// SPDX-License-Identifier: MIT

// Package doctor says what is wrong with an installation, given what is known of it:
// its configuration, Redis, the gateways, Meet and the applications. It asks nothing:
// the caller has collected the facts.
package doctor

import (
	"time"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// Facts are what is known. Zero values are facts as well, but for those of Redis and
// Meet that were not found out: Known tells.
type Facts struct {
	Now           time.Time
	Configuration Configuration
	Redis         Redis
	Gateways      []tokens.Gateway
	Keys          []tokens.KeyStatus
	// MissingKeys are in use by other gateways and not configured here; KeysError is set
	// if this is the gateway that is wrong.
	MissingKeys  []string
	KeysError    string
	Meets        []Meet
	Applications []Application
}

// Configuration is what the operator wrote.
type Configuration struct {
	// Embedded tells that the state is in the memory of this process.
	Embedded bool
	// Secrets describe the secrets in their order.
	Secrets []Secret
	// AdminAddress is where the admin endpoint listens.
	AdminAddress string
	// GatewaysExpected is how many gateways share the limits (option nodes).
	GatewaysExpected int
	Sites            []Site
}

// Secret describes a secret without telling it.
type Secret struct {
	// Literal tells that it stands in the configuration, by itself or by {$NAME}.
	Literal bool
	// Distinct is how many different bytes it has, Length how many in all.
	Distinct, Length int
}

// Site is a server that the directive is on.
type Site struct {
	Address string
	// Plain tells that it serves HTTP without TLS, Proxied that trusted_proxies is set.
	Plain, Proxied bool
}

// Redis is what is known of Redis.
type Redis struct {
	// Problem says why it cannot be used; then nothing else is known.
	Problem string
	// Replica tells that the problem is that it is a replica.
	Replica     bool
	Mode        string
	Settings    tokens.StoreSettings
	Permissions tokens.Permissions
	Latency     time.Duration
	// FeedProblem says why changes are not heard.
	FeedProblem string
	FeedFresh   bool
	// WaitReplicas is the option wait_replicas.
	WaitReplicas int
}

// Meet is what one gate's Meet answered to a request that it must refuse: an empty
// request for a token.
type Meet struct {
	Host string
	// Sandbox is the Meet in memory, of which nothing else is known.
	Sandbox bool
	// Problem says why there was no answer.
	Problem  string
	Status   int
	JSON     bool
	Location string
	// AsRecorded tells that the answer names the fields that are missing, as recorded.
	AsRecorded bool
	// Date is that of the answer; zero if it had none.
	Date time.Time
	// TLSExpires is when the upstream's certificate ends; zero without TLS.
	TLSExpires time.Time
	// Plain tells that it is reached without TLS on another machine.
	Plain bool
	// Credentials tells that the gateway has credentials of its own there.
	Credentials bool
	// Hints are what it was seen to be set up wrongly lately, by requests.
	Hints []string
	// NoAudience, DuplicateMails and UnknownUsers are what requests have shown lately:
	// tokens without an audience that Meet itself refuses, addresses that several users
	// share, and users whom Meet neither knew nor made.
	NoAudience, DuplicateMails, UnknownUsers bool
	// Issued tells that a token of Meet's was seen lately, which lives for TokenLifetime.
	Issued        bool
	TokenLifetime time.Duration
	// PageSize is how many rooms are on a page of its list; 0 if that is not known.
	PageSize int
}

// Application is an application and what was found out about it.
type Application struct {
	*tokens.Application
	// LostAliases are client ids that it lists and that lead to another, or nowhere.
	LostAliases []string
}
