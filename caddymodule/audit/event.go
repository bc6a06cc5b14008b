// SPDX-License-Identifier: MIT

package audit

import "time"

// The decisions.
const (
	Allowed = "allowed" // done
	Refused = "refused" // a rule said no
	Failed  = "failed"  // an outage: not done, or unknown
)

// Types of events. Events of administration are named after the change
// (`application.create`, `revoke.user`, …).
const (
	TokenIssued    = "token.issued"
	TokenRefreshed = "token.refreshed"
	TokenRefused   = "token.refused"
	TokenRevoked   = "token.revoked"
	RoomCreated    = "room.created"
	RoomRefused    = "room.refused"
	RouteUsed      = "route.used"
	RouteRefused   = "route.refused"
	Adopted        = "application.adopted"
	AdoptRefused   = "application.adoption_refused"
	QuotaWarning   = "quota.warning"
	QuotaExceeded  = "quota.exceeded"
)

// Event is one decision. [Trail.Write] sets Time, LogType and Gateway. No field holds a
// credential. Mail is set only if the operator chose clear addresses.
type Event struct {
	Time    time.Time `json:"time"`
	LogType string    `json:"log_type"`
	Type    string    `json:"event_type"`
	// Decision is allowed, refused or failed. Rule is the rule behind it: the reason of a
	// refusal as in logs and metrics, or the permission (`domain example.org`,
	// `scope rooms:create`).
	Decision string `json:"decision"`
	Rule     string `json:"rule,omitempty"`
	// Status is the HTTP status of the answer.
	Status int `json:"status,omitempty"`
	// Actor made the request; Target is its object.
	Actor  *Party `json:"actor,omitempty"`
	Target *Party `json:"target,omitempty"`
	// SourceIP is the address of the caller, as Caddy determines it.
	SourceIP    string       `json:"source_ip,omitempty"`
	Application *Application `json:"application,omitempty"`
	// User is the public id of the user.
	User string `json:"user,omitempty"`
	// Mail is the user's address, MailHash its keyed hash.
	Mail     string `json:"mail,omitempty"`
	MailHash string `json:"mail_hash,omitempty"`
	Room     *Room  `json:"room,omitempty"`
	// Repeated is true for an answer that was repeated for an Idempotency-Key.
	Repeated bool `json:"repeated,omitempty"`
	// DryRun is true for a quota that only reports.
	DryRun bool `json:"dry_run,omitempty"`
	// Fields are the names of the fields that an administrator changed.
	Fields []string `json:"fields,omitempty"`
	// Details are further facts by name, from a closed set.
	Details map[string]any `json:"details,omitempty"`
	// RequestID is the X-Request-Id, here and at Meet.
	RequestID string `json:"request_id,omitempty"`
	TraceID   string `json:"trace_id,omitempty"`
	// Gateway is the name of the deciding gateway.
	Gateway string `json:"gateway,omitempty"`
}

// Party is the actor or the target of an event.
type Party struct {
	// Type is application, user, room, token, route, administrator or gateway.
	Type string `json:"type"`
	ID   string `json:"id,omitempty"`
}

// Application is the acting application.
type Application struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// Room is a room of Meet.
type Room struct {
	ID   string `json:"id,omitempty"`
	Slug string `json:"slug,omitempty"`
}
