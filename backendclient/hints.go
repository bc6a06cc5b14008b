// SPDX-License-Identifier: MIT

package backendclient

import "net/url"

// Hints for operators. They name Meet's settings as Meet's documentation does.
const (
	hintNoCredentials  = "no Meet credentials are configured for this application"
	hintCredentials    = "the Meet client id or secret held by the gateway is wrong: check the application in Meet's admin"
	hintInactive       = "the application that the gateway presents is switched off or gone in Meet: check it in Meet's admin"
	hintConnect        = "no connection to Meet: check the backend's address, port and TLS"
	hintHost           = "Meet refuses the Host header: the configured host must be Meet's public name, listed in DJANGO_ALLOWED_HOSTS"
	hintProto          = "Meet redirects to https: something between the gateway and Meet removes or changes X-Forwarded-Proto: https"
	hintSlash          = "Meet redirects to the path with a slash: something between the gateway and Meet removes the trailing slash"
	hintRedirect       = "something between the gateway and Meet redirects"
	hintAPIDisabled    = "set EXTERNAL_API_ENABLED=True in Meet, and route /external-api/ to Meet's backend"
	hintApplications   = "set APPLICATION_ENABLED=True in Meet"
	hintNoSuchPath     = "this version of Meet has no such path, or EXTERNAL_API_ENABLED is not set"
	hintNotJSON        = "something other than Meet's backend answered: /external-api/ must be routed to the backend, not to the frontend"
	hintForbidden      = "something between the gateway and Meet (a web application firewall?) forbids the request"
	hintChallenge      = "something between the gateway and Meet asks for authentication of its own"
	hintAuthorization  = "Meet got no usable Authorization header: something between the gateway and Meet removes, changes or doubles it"
	hintBody           = "Meet did not get the body as sent: a proxy in between changes it or sends it on without Content-Length"
	hintServerError    = "Meet's own log has the reason; APPLICATION_JWT_SECRET_KEY unset is one"
	hintTokenExpired   = "Meet's tokens expire at once: check APPLICATION_JWT_EXPIRATION_SECONDS and the clocks of Meet's servers"
	hintTokenRefused   = "Meet refuses tokens that it has just issued: check APPLICATION_JWT_AUDIENCE (unset is fine, empty is not), APPLICATION_JWT_ISSUER, that all of Meet's servers share APPLICATION_JWT_SECRET_KEY, and their clocks"
	hintTokenUnusable  = "the token is too long for Meet's own header limit, or holds characters a header cannot carry"
	hintHeaderTooLarge = "the request's headers are too large for Meet's server"
	hintTooLarge       = "the answer is larger than the gateway reads"
	hintOtherRoom      = "something between the gateway and Meet mixes answers up: this one is for another room than was asked for"
	hintNoRoom         = "the answer to a creation shows no room: something between the gateway and Meet changes answers, or this is no Meet"
	hintEncoded        = "the answer is compressed although the gateway asked for none"
	hintDuplicate      = "several users of Meet have this mail: run Meet's merge_duplicate_users"
)

// redirectHint tells Meet's two redirects apart by what Location changes.
func redirectHint(path, location string) string {
	u, err := url.Parse(location)
	switch {
	case err != nil || location == "":
		return hintRedirect
	case u.Host == "" && u.Path == path:
		// A redirect to the path that was sent: it arrived without its slash.
		return hintSlash
	case u.Scheme == "https" && u.Path == path:
		return hintProto
	}
	return hintRedirect
}
