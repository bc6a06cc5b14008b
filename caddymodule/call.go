// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// call is the state of one request.
type call struct {
	h *Handler
	w http.ResponseWriter
	address
	// ctx is the context for the request's work: that of r until detach is called.
	ctx       context.Context
	cancel    context.CancelFunc
	requestID string
	began     time.Time
	meetTime  time.Duration // time spent waiting for Meet
	values    headerValues

	match    match
	endpoint endpoint
	action   *action
	scope    string
	outcome  string

	// application and identity are set once the credential has been verified.
	application *tokens.Application
	identity    *tokens.Identity
	client      *tokens.Client // set if the application presented its secret
	// clientID is the id of a known application whose credential was refused. It is
	// only logged.
	clientID string
	// presentsOwn is true while Meet is shown the credentials that an imported
	// application has just presented here.
	presentsOwn bool
	// generations are those of the application's grant for the user.
	generations tokens.Generations
	// meetClientID is the client id at Meet of the presented secret, if that was
	// imported.
	meetClientID string

	entry auditEntry
}

// Types for the endpoints, each with the methods that only they need.
type (
	tokenCall    struct{ *call }
	roomsCall    struct{ *call }
	identityCall struct{ *call }
	documentCall struct{ *call }
)

// serve finds the endpoint and runs it. refuse answers its error.
func (c *call) serve() error {
	if err := c.find(); err != nil {
		return err
	}
	if c.isAudited() {
		if err := c.h.app.Audit.ready(); err != nil {
			return err
		}
	}
	switch c.endpoint {
	case endpointToken:
		return tokenCall{c}.serve()
	case endpointRevoke:
		return c.serveRevoke()
	case endpointIntrospect:
		return c.serveIntrospect()
	case endpointIdentity:
		return identityCall{c}.serveIdentity()
	case endpointIdentitySource:
		return identityCall{c}.serveSource()
	case endpointJWKS:
		return documentCall{c}.serveJWKS()
	case endpointServerMetadata:
		return documentCall{c}.serveServerMetadata()
	case endpointResourceMetadata:
		return documentCall{c}.serveResourceMetadata()
	case endpointOpenAPI:
		return documentCall{c}.serveOpenAPI()
	case endpointDocs:
		return documentCall{c}.serveDocs()
	default:
		return roomsCall{c}.serve()
	}
}

// find looks up the request in the route table.
func (c *call) find() error {
	var err error
	if c.target, err = parse.Target(c.r.RequestURI); err != nil {
		return err
	}
	rest, ok := c.cutWellKnown(c.h.basePath)
	if !ok {
		rest, ok = c.cutBasePath(c.h.basePath)
	}
	if !ok {
		return errUnknownPath
	}
	if c.match, ok = c.h.routes.lookup(rest); !ok {
		return errUnknownPath
	}
	// The endpoint is set before the method is checked, because it decides the form of
	// errors.
	c.endpoint = c.match.pattern.actions[0].endpoint
	if c.action = c.match.pattern.action(c.r.Method); c.action == nil {
		return methodNotAllowed(c.r.Method, c.match.pattern.allow)
	}
	c.endpoint, c.scope = c.action.endpoint, c.action.scope
	return refuseEarlyChange(c.r)
}

// refuse answers an error in the form that the endpoint uses.
func (c *call) refuse(err error) error {
	if c.sharesCredentials() && errors.Is(err, backendclient.ErrApplicationInactive) {
		err = fmt.Errorf("%w: %w", errSharedInactive, err)
	}
	r := refusalOf(err, c.endpoint)
	if c.endpoint == endpointToken && errors.Is(err, backendclient.ErrUserNotFound) {
		r.status = c.h.UnknownUserStatus
	}
	r = c.orCanceled(r)
	c.clientID = cmp.Or(c.clientID, tokens.ApplicationOf(err))
	if err := c.entry.record(c, &r); err != nil && r.reason != reasonAudit {
		r = refusalOf(err, c.endpoint)
	}
	c.logRefusal(&r)
	c.note(r.reason)
	defer c.measure(r.status)
	c.addResourceMetadata(&r)
	r.setHeaders(c.w.Header())
	switch c.endpoint {
	case endpointIdentity, endpointIdentitySource:
		return c.writeIdentityError(&r)
	case endpointRevoke, endpointIntrospect:
		r.useOAuthCode()
		fallthrough
	case endpointToken:
		c.w.Header()["Pragma"] = headerNoCache
	default:
	}
	return writeJSON(c.w, r.status, r.body())
}

// checkSource refuses client addresses that the application may not use, based on the
// address that Caddy trusts.
func (c *call) checkSource() error {
	if len(c.application.Networks) == 0 {
		return nil
	}
	ip, err := sourceOf(c.r)
	if err != nil {
		return err
	}
	if !ip.IsValid() || !c.application.AllowsSource(ip) {
		return errSource
	}
	return nil
}

// sharesCredentials reports whether Meet is shown the gateway's own credentials for
// this application. The application is not to blame if Meet refuses them.
func (c *call) sharesCredentials() bool {
	return c.application != nil && c.application.Backend == nil && !c.presentsOwn
}

// caller returns the caller on whose behalf Meet is called.
func (c *call) caller(mail tokens.Mail) backendclient.Caller {
	caller := backendclient.Caller{
		Credentials: c.h.credentialsOf(c.application), Mail: string(mail), Application: c.application.ID, RequestID: c.requestID,
		Generations: c.generations, Source: sourceText(c.r),
	}
	if c.identity != nil {
		caller.Session = c.identity.TokenID
	}
	// The scopes that Meet's token needs. A cached token with fewer is replaced: Meet
	// may grant more by now.
	if c.endpoint == endpointToken {
		caller.Scopes = c.application.Scopes.Intersect(c.h.scopes)
	} else if c.action != nil {
		caller.Scopes = c.action.scopes
	}
	return caller
}
