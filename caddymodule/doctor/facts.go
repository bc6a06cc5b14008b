// SPDX-License-Identifier: MIT

// Package doctor finds what is wrong with an installation: with its configuration, Redis,
// the gateways, Meet and the applications. The caller collects the [Facts]; [Diagnose]
// only judges them.
package doctor

import (
	"time"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// Facts describe an installation. A zero value is a fact too, except for Redis and Meet,
// where Known tells whether they could be asked.
type Facts struct {
	Now           time.Time
	Configuration Configuration
	Redis         Redis
	Gateways      []tokens.Gateway
	Keys          []tokens.KeyStatus
	// MissingKeys are used by other gateways and not configured here. KeysError is set if
	// this gateway is the wrong one.
	MissingKeys  []string
	KeysError    string
	Meets        []Meet
	Applications []Application
}

// Configuration is the operator's configuration.
type Configuration struct {
	// Embedded reports that the state is in the memory of this process.
	Embedded bool
	// Secrets describe the configured secrets, in order.
	Secrets []Secret
	// AdminAddress is the address of the admin endpoint.
	AdminAddress string
	// GatewaysExpected is the option `gateways`: the number of gateways that share the limits.
	GatewaysExpected int
	Sites            []Site
}

// Secret describes a secret without revealing it.
type Secret struct {
	// Literal reports that the configuration contains the secret itself, also by {$NAME}.
	Literal bool
	// Length is its number of bytes, Distinct the number of different ones.
	Distinct, Length int
}

// Site is a server with the directive.
type Site struct {
	Address string
	// Plain reports HTTP without TLS, Proxied that trusted_proxies names proxies.
	Plain, Proxied bool
}

// Redis describes Redis.
type Redis struct {
	// Problem says why Redis cannot be used. The other fields are then unknown.
	Problem string
	// Replica reports that the problem is a replica in place of the primary.
	Replica bool
	Mode    string
	Servers []tokens.StoreSettings
	// Replicas are those that could not replace a primary.
	Replicas    []tokens.Replica
	Permissions tokens.Permissions
	Latency     time.Duration
	// FeedProblem says why this gateway does not hear of changes.
	FeedProblem string
	FeedFresh   bool
	// WaitReplicas is the option wait_replicas.
	WaitReplicas int
}

// Meet describes a Meet by its answer to an empty token request, which it must refuse.
type Meet struct {
	Host string
	// Sandbox is the Meet in memory. The other fields are then unknown.
	Sandbox bool
	// Problem says why there was no answer.
	Problem  string
	Status   int
	JSON     bool
	Location string
	// AsRecorded reports that the answer names the missing fields, as in the recording.
	AsRecorded bool
	// Date is the Date header of the answer, or zero.
	Date time.Time
	// TLSExpires is the end of the upstream's certificate; zero without TLS.
	TLSExpires time.Time
	// Plain reports a Meet on another machine without TLS.
	Plain bool
	// Credentials reports that the gateway has credentials of its own there.
	Credentials bool
	// Hints are the wrong settings that recent requests have shown.
	Hints []string
	// Recent requests have shown these: tokens without an audience, which Meet itself
	// refuses; addresses that several users share; users that Meet neither knew nor
	// created.
	NoAudience, DuplicateMails, UnknownUsers bool
	// Issued reports that Meet issued a token recently, which lives for TokenLifetime.
	Issued        bool
	TokenLifetime time.Duration
	// PageSize is the number of rooms on a page of Meet's list; 0 if it is unknown.
	PageSize int
}

// Application is an application with its lost aliases.
type Application struct {
	*tokens.Application
	// LostAliases are client ids that it lists, but that do not lead to it.
	LostAliases []string
}
