// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// Errors of this package. Each has a row in the table failures.
var (
	errUnknownPath    = errors.New("unknown path")
	errNoToken        = errors.New("no bearer token")
	errSource         = errors.New("source address not allowed")
	errTooEarly       = errors.New("request in TLS early data")
	errInvalidRoom    = errors.New("room is not a UUID")
	errPublicRooms    = errors.New("public rooms are not allowed")
	errSharedInactive = errors.New("the application that the gateway itself presents to Meet is inactive")
)

// Values of "error" without a published text: from RFC 6749 §5.2 and §4.1.2.1, or in the
// same style.
const (
	codeInvalidRequest = "invalid_request"
	codeUnavailable    = "temporarily_unavailable"
	codeBadGateway     = "bad_gateway"
	codeTimeout        = "gateway_timeout"
	codeServerError    = "server_error"
	codeConflict       = "conflict"
	codeUnprocessable  = "unprocessable"
	codeRateLimited    = "rate_limited"
	codeTooEarly       = "too_early"
	codeInvalidClient  = "invalid_client"
	codeInvalidGrant   = "invalid_grant"
	codeInvalidScope   = "invalid_scope"
	codeUnauthorized   = "unauthorized_client"
)

// reasonAudit is the reason for refusing what cannot be recorded in the audit trail.
const reasonAudit = "audit_unavailable"

// realm is the protection space in challenges (RFC 9110 §11.5).
const realm = "meet-gateway"

// refusal is an error answer.
type refusal struct {
	status int
	// detail is the public text, as published or in Meet's words.
	detail string
	// code is the value of "error" if no text is published for it.
	code string
	// reason is one word for logs and metrics, from a closed set.
	reason string
	// outage marks failures of the installation, which are logged as errors.
	outage bool
	// challenge is the value of WWW-Authenticate (RFC 9110 §11.6.1).
	challenge string
	// retryAfter is when the caller should retry; 0 sends no Retry-After.
	retryAfter time.Duration
	// fields are texts by field, in Meet's form.
	fields parse.FieldErrors
	// whole replaces the texts by a whole body: Meet's error after [withBothKeys].
	whole []byte
	// allow is the value of Allow.
	allow string
	// cause is logged.
	cause error
}

// Complete values of WWW-Authenticate. A request without credentials gets no error code
// (RFC 6750 §3.1).
const (
	challengeBearer        = `Bearer realm="` + realm + `"`
	challengeInvalidToken  = challengeBearer + `, error="invalid_token"`
	challengeInvalidHeader = challengeBearer + `, error="invalid_request"`
	challengeBasic         = `Basic realm="` + realm + `", charset="UTF-8"`
)

// Texts, as published or in Meet's words.
const (
	textInvalidCredentials = "Invalid credentials"
	textInactive           = "Application is inactive"
	textUserNotFound       = "User not found."
	textBadMail            = "Scope should be a valid email address."
	textDomain             = "This application is not authorized for this email domain."
	textProvisioning       = "Failed to create or retrieve provisional user."
	textNoCredentials      = "Authentication credentials were not provided."
	textInvalidHeader      = "Invalid token header."
	textInvalidToken       = "Invalid token."
	textUnavailable        = "The service is temporarily unavailable. Try again later."
	textBadGateway         = "The meeting service gave no usable answer."
	textTimeout            = "The meeting service did not answer in time."
	textNotFound           = "Not found."
	textQuota              = "This application may not bring in more new users today."
	textPublicRooms        = "Public rooms are disabled for the external API."
)

// failureRow is an error and its answer. token is the answer of endpoints with client
// authentication, if it differs.
type failureRow struct {
	err    error
	answer refusal
	token  *refusal
}

// failures is the only table from errors to answers. The first matching row counts.
var failures = []failureRow{
	// The request itself.
	{err: parse.ErrTarget, answer: refusal{status: 400, detail: "Malformed request target.", code: codeInvalidRequest, reason: "malformed_target"}},
	{err: parse.ErrQuery, answer: refusal{status: 400, detail: "Malformed query.", code: codeInvalidRequest, reason: "malformed_query"}},
	{err: parse.ErrRepeatedParameter, answer: refusal{status: 400, detail: "Duplicate query parameter.", code: codeInvalidRequest, reason: "malformed_query"}},
	{err: errUnknownPath, answer: refusal{status: 404, detail: textNotFound, reason: "unknown_path"}},
	{err: errTooEarly, answer: refusal{status: http.StatusTooEarly, detail: "Send the request again when the TLS handshake is complete.", code: codeTooEarly, reason: "too_early"}},
	{err: errTwoCredentials, answer: refusal{status: 400, detail: "Client credentials were sent in more than one way.", code: codeInvalidRequest, reason: "two_credentials"}},

	// The caller's credential.
	{err: errNoToken, answer: refusal{status: 401, detail: textNoCredentials, reason: "no_credentials", challenge: challengeBearer}},
	{err: parse.ErrAuthorizationRepeated, answer: refusal{status: 401, detail: textInvalidHeader, reason: "malformed_authorization", challenge: challengeInvalidHeader}},
	{err: parse.ErrAuthorizationValue, answer: refusal{status: 401, detail: textInvalidHeader, reason: "malformed_authorization", challenge: challengeInvalidHeader}},
	{err: parse.ErrAuthorizationEncoding, answer: refusal{status: 401, detail: "Invalid token encoding.", reason: "malformed_authorization", challenge: challengeInvalidHeader}},
	{err: tokens.ErrTokenExpired, answer: refusal{status: 401, detail: "Token expired.", reason: "token_expired", challenge: challengeInvalidToken}},
	{err: tokens.ErrTokenMalformed, answer: refusal{status: 401, detail: textInvalidToken, reason: "token_malformed", challenge: challengeInvalidToken}},
	{err: tokens.ErrTokenForeign, answer: refusal{status: 401, detail: textInvalidToken, reason: "token_foreign", challenge: challengeInvalidToken}},
	{err: tokens.ErrTokenInvalid, answer: refusal{status: 401, detail: textInvalidToken, reason: "token_invalid", challenge: challengeInvalidToken}},
	{err: tokens.ErrInvalidClient, answer: refusal{status: 401, detail: textInvalidCredentials, reason: "invalid_client", challenge: challengeBasic}},
	{
		err:    tokens.ErrInactiveApplication,
		answer: refusal{status: 401, detail: "Application is disabled.", reason: "application_inactive", challenge: challengeInvalidToken},
		token:  &refusal{status: 401, detail: textInactive, reason: "application_inactive", challenge: challengeBasic},
	},
	{err: errSource, answer: refusal{status: 403, detail: "This application is not authorized from this address.", code: codeUnauthorized, reason: "source_not_allowed"}},
	{err: tokens.ErrDomainNotAllowed, answer: refusal{status: 403, detail: textDomain, reason: "domain_not_allowed"}},
	{err: tokens.ErrInvalidMail, answer: refusal{status: 400, detail: textBadMail, reason: "invalid_mail", fields: parse.FieldErrors{"scope": {"Invalid email address."}}}},

	// Refresh tokens, revocation and introspection.
	{err: tokens.ErrInvalidGrant, answer: refusal{status: 400, detail: "The refresh token is not valid.", code: codeInvalidGrant, reason: "invalid_grant"}},
	{err: errGrantNotAllowed, answer: refusal{status: 400, code: codeUnauthorized, reason: "grant_not_allowed", fields: parse.FieldErrors{"grant_type": {notAChoice(grantRefreshToken)}}}},
	{err: errOtherUser, answer: refusal{status: 400, code: codeInvalidScope, reason: "other_user", fields: parse.FieldErrors{"scope": {"The refresh token belongs to another user."}}}},
	{err: tokens.ErrScopeNotGranted, answer: refusal{status: 400, code: codeInvalidScope, reason: "scope_not_granted", fields: parse.FieldErrors{"scope": {"The refresh token was not granted this scope."}}}},
	{err: tokens.ErrNotOwner, answer: refusal{status: 400, detail: "The token was issued to another application.", code: codeInvalidGrant, reason: "other_application"}},

	{err: tokens.ErrQuotaExceeded, answer: refusal{status: 403, detail: textQuota, code: codeUnauthorized, reason: "quota_exceeded"}},

	// Rooms.
	{err: errInvalidRoom, answer: refusal{status: 404, detail: textNotFound, reason: "not_found"}},
	{err: errPublicRooms, answer: refusal{status: 400, code: codeInvalidRequest, reason: "public_room", fields: parse.FieldErrors{"access_level": {textPublicRooms}}}},

	// Idempotency-Key.
	{err: tokens.ErrInvalidIdempotencyKey, answer: refusal{status: 400, detail: "Malformed Idempotency-Key.", code: codeInvalidRequest, reason: "idempotency_key_malformed"}},
	{err: tokens.ErrKeyReused, answer: refusal{status: 422, detail: "This Idempotency-Key was used with another request.", code: codeUnprocessable, reason: "idempotency_key_reused"}},
	{err: tokens.ErrInFlight, answer: refusal{status: 409, detail: "A request with this Idempotency-Key is in progress.", code: codeConflict, reason: "idempotency_in_flight", retryAfter: time.Second}},
	{err: tokens.ErrOutcomeUnknown, answer: refusal{status: 409, detail: "It is not known what became of the first request with this Idempotency-Key. Check before trying again with another one.", code: codeConflict, reason: "idempotency_outcome_unknown"}},

	// The gateway's own store. It settles after a failover, which needs nobody's attention.
	{err: tokens.ErrSettling, answer: refusal{status: 503, detail: textUnavailable, code: codeUnavailable, reason: "store_settling", retryAfter: 2 * time.Second}},
	{err: tokens.ErrUnavailable, answer: refusal{status: 503, detail: textUnavailable, code: codeUnavailable, reason: "store_unavailable", outage: true, retryAfter: 2 * time.Second}},
	{err: audit.ErrNotWritten, answer: refusal{status: 503, detail: textUnavailable, code: codeUnavailable, reason: reasonAudit, outage: true, retryAfter: 5 * time.Second}},
	// Another writer kept changing the application while its credentials at Meet were
	// stored.
	{err: tokens.ErrConflict, answer: refusal{status: 503, detail: textUnavailable, code: codeUnavailable, reason: "busy", retryAfter: 2 * time.Second}},
	{err: tokens.ErrBusy, answer: refusal{status: 503, detail: textUnavailable, code: codeUnavailable, reason: "busy", retryAfter: 2 * time.Second}},

	// Meet. A failure of the gateway or of its operator is never the caller's 401.
	{
		err:    backendclient.ErrUserNotFound,
		answer: refusal{status: 401, detail: textUserNotFound, reason: "user_not_found", challenge: challengeInvalidToken},
		token:  &refusal{status: 400, detail: textUserNotFound, reason: "user_not_found"},
	},
	{err: backendclient.ErrInvalidMail, answer: refusal{status: 400, detail: textBadMail, reason: "invalid_mail", fields: parse.FieldErrors{"scope": {"Invalid email address."}}}},
	{err: backendclient.ErrDomainRefused, answer: refusal{status: 403, detail: textDomain, reason: "domain_refused"}},
	{err: backendclient.ErrDuplicateUser, answer: refusal{status: 409, detail: "Several users share this email address.", reason: "duplicate_user", outage: true}},
	{err: backendclient.ErrProvisioningConflict, answer: refusal{status: 409, detail: textProvisioning, reason: "provisioning_conflict"}},
	{err: errSharedInactive, answer: refusal{status: 502, detail: textBadGateway, code: codeBadGateway, reason: "backend_shared_application_inactive", outage: true}},
	{
		err:    backendclient.ErrApplicationInactive,
		answer: refusal{status: 401, detail: "Application is disabled.", reason: "backend_application_inactive", outage: true, challenge: challengeInvalidToken},
		token:  &refusal{status: 401, detail: textInactive, reason: "backend_application_inactive", outage: true, challenge: challengeBasic},
	},
	{err: backendclient.ErrTokenRefused, answer: refusal{status: 401, detail: textInvalidToken, reason: "foreign_token_refused", challenge: challengeInvalidToken}},
	{err: backendclient.ErrUserDisabled, answer: refusal{status: 401, detail: "User account is disabled.", reason: "user_disabled", challenge: challengeInvalidToken}},
	{err: backendclient.ErrBackendCredentials, answer: refusal{status: 502, detail: textBadGateway, code: codeBadGateway, reason: "backend_credentials", outage: true}},
	{err: backendclient.ErrAPIDisabled, answer: refusal{status: 502, detail: textBadGateway, code: codeBadGateway, reason: "backend_api_disabled", outage: true}},
	{err: backendclient.ErrMisconfigured, answer: refusal{status: 502, detail: textBadGateway, code: codeBadGateway, reason: "backend_misconfigured", outage: true}},
	{err: backendclient.ErrBadAnswer, answer: refusal{status: 502, detail: textBadGateway, code: codeBadGateway, reason: "backend_bad_answer", outage: true}},
	{err: backendclient.ErrUnavailable, answer: refusal{status: 503, detail: textUnavailable, code: codeUnavailable, reason: "backend_unavailable", outage: true, retryAfter: 5 * time.Second}},
	{err: backendclient.ErrBusy, answer: refusal{status: 503, detail: textUnavailable, code: codeUnavailable, reason: "backend_busy", outage: true, retryAfter: 2 * time.Second}},
	{
		err:    backendclient.ErrTimeout,
		answer: refusal{status: 504, detail: textTimeout, code: codeTimeout, reason: "backend_timeout", outage: true},
		// An exchange can be repeated without harm.
		token: &refusal{status: 503, detail: textUnavailable, code: codeUnavailable, reason: "backend_timeout", outage: true, retryAfter: 5 * time.Second},
	},
	{err: backendclient.ErrTooManyRooms, answer: refusal{status: 422, detail: "This user has too many rooms to find one by its slug. Ask for it by its id, or read the list page by page.", code: codeUnprocessable, reason: "too_many_rooms"}},
	{err: backendclient.ErrInvalidRequest, answer: refusal{status: 400, detail: "Malformed request target.", code: codeInvalidRequest, reason: "malformed_target"}},

	// The caller has disconnected and does not read this answer.
	{err: context.Canceled, answer: refusal{status: 499, detail: "Client closed request.", code: codeInvalidRequest, reason: "canceled"}},
	{err: context.DeadlineExceeded, answer: refusal{status: 504, detail: textTimeout, code: codeTimeout, reason: "backend_timeout", outage: true}},
}

// textMayHaveEffect is added if a request may have changed something although its
// answer is lost.
const textMayHaveEffect = " The request may have been carried out: check before trying again."

// refusalOf returns the answer to an error at an endpoint.
func refusalOf(err error, at endpoint) refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return *r
	}
	if re, ok := errors.AsType[*parse.RequestError](err); ok {
		return refusal{status: re.Status, detail: re.Text, code: codeInvalidRequest, reason: reasonOfStatus(re.Status)}
	}
	if fe, ok := errors.AsType[parse.FieldErrors](err); ok {
		return refusal{status: http.StatusBadRequest, code: codeOfFields(fe), fields: fe, reason: "invalid_fields"}
	}
	for i := range failures {
		row := &failures[i]
		if !errors.Is(err, row.err) {
			continue
		}
		r := row.answer
		if at.authenticatesClients() && row.token != nil {
			r = *row.token
		}
		r.cause = err
		r.refine(err)
		return r
	}
	return refusal{
		status: http.StatusInternalServerError, detail: "Internal error.", code: codeServerError,
		reason: "internal", outage: true, cause: err,
	}
}

// authenticatesClients reports whether applications authenticate at the endpoint.
func (e endpoint) authenticatesClients() bool {
	return e == endpointToken || e == endpointRevoke || e == endpointIntrospect
}

// useOAuthCode sets "error" to a code of RFC 6749 §5.2 if no text is published (RFC
// 7009 §2.2.1, RFC 7662 §2.3).
func (r *refusal) useOAuthCode() {
	if r.code != "" {
		return
	}
	switch r.status {
	case http.StatusUnauthorized:
		r.code = codeInvalidClient
	case http.StatusForbidden:
		r.code = codeUnauthorized
	default:
		r.code = codeInvalidRequest
	}
}

// refine replaces defaults of the table by values that the error carries.
func (r *refusal) refine(err error) {
	if reason := tokens.Reason(err); reason != "" {
		r.reason = reason
	}
	be, ok := errors.AsType[*backendclient.Error](err)
	if !ok {
		return
	}
	if r.retryAfter > 0 && be.RetryAfter > 0 {
		r.retryAfter = be.RetryAfter
	}
	if !be.Effect || r.status < 500 {
		return
	}
	if r.status == http.StatusServiceUnavailable {
		// 503 invites a retry, which could have the effect twice.
		r.status, r.detail, r.code, r.retryAfter = http.StatusBadGateway, textBadGateway, codeBadGateway, 0
	}
	r.detail += textMayHaveEffect
}

func (r *refusal) Error() string { return r.reason }

// insufficientScope is the published 403 and its challenge (RFC 6750 §3.1).
func insufficientScope(scope string) error {
	return &refusal{
		status: http.StatusForbidden, detail: "Insufficient permissions. Required scope: '" + scope + "'", reason: "insufficient_scope",
		challenge: challengeBearer + `, error="insufficient_scope", scope="` + scope + `"`,
	}
}

// methodNotAllowed is a 405 with Allow (RFC 9110 §15.5.6).
func methodNotAllowed(method, allow string) error {
	return &refusal{
		status: http.StatusMethodNotAllowed, detail: fmt.Sprintf("Method \"%s\" not allowed.", cutText(method)), reason: "method_not_allowed",
		allow: allow,
	}
}

func reasonOfStatus(status int) string {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return "body_too_large"
	case http.StatusUnsupportedMediaType:
		return "unsupported_media_type"
	}
	return "malformed_request"
}

func codeOfFields(fields parse.FieldErrors) string {
	if _, wrong := fields["grant_type"]; wrong && len(fields) == 1 && fields["grant_type"][0] != fieldRequired {
		return "unsupported_grant_type"
	}
	return codeInvalidRequest
}

// body returns the JSON body. All refusals follow one rule (docs/compatibility.md):
// `detail` is a sentence; `error` is the same sentence if it is published or Meet's,
// and otherwise a code; each invalid field has a list of texts.
func (r *refusal) body() []byte {
	if r.whole != nil {
		return r.whole
	}
	object := make(map[string]any, len(r.fields)+2)
	for name, texts := range r.fields {
		object[name] = texts
	}
	detail := cmp.Or(r.detail, r.fields.Sentence())
	object["detail"] = detail
	object["error"] = cmp.Or(r.code, detail)
	b, err := json.Marshal(object)
	if err != nil { // strings and lists of strings can always be encoded
		panic(err)
	}
	return b
}

// setHeaders sets the headers of the answer.
func (r *refusal) setHeaders(h http.Header) {
	if r.challenge != "" {
		h["Www-Authenticate"] = []string{r.challenge}
	}
	if r.retryAfter > 0 {
		h["Retry-After"] = []string{strconv.Itoa(int((r.retryAfter + time.Second - 1) / time.Second))}
	}
	if r.allow != "" {
		h["Allow"] = []string{r.allow}
	}
}
