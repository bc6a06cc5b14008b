// SPDX-License-Identifier: MIT

package wire

import (
	"strconv"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// Application is an application as the admin API shows it.
type Application struct {
	*tokens.Application
	// Lists are shown when they are empty: that means something.
	Scopes  tokens.Scopes `json:"scopes"`
	Domains []string      `json:"domains"`
	// LearnsBackend is the client id at Meet of which the imported secret becomes
	// its backend credentials at the first token request, if Meet takes it.
	LearnsBackend string `json:"learns_backend,omitempty"`
	// Warnings are what an operator should know about the settings.
	Warnings []string `json:"warnings,omitempty"`
	// ClientID and ClientSecret are there once, when a secret is made (names of
	// RFC 7591 §3.2.1).
	ClientID     string `json:"client_id,omitempty"`
	ClientSecret string `json:"client_secret,omitempty"`
}

// ETag identifies what can be changed of an application: its version.
func ETag(app *tokens.Application) string { return `"` + strconv.FormatInt(app.Version, 10) + `"` }
