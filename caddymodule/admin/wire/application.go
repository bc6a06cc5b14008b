// SPDX-License-Identifier: MIT

package wire

import (
	"strconv"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// Application is an application as the admin API shows it.
type Application struct {
	*tokens.Application
	// Lists are shown even if they are empty.
	Scopes  tokens.Scopes `json:"scopes"`
	Domains []string      `json:"domains"`
	// LearnsBackend is a client id at Meet. Together with the imported secret it becomes the
	// backend credentials at the first token request, if Meet accepts them.
	LearnsBackend string `json:"learns_backend,omitempty"`
	// Warnings are about the settings.
	Warnings []string `json:"warnings,omitempty"`
	// ClientID and ClientSecret are shown once, when a secret is created (RFC 7591
	// §3.2.1).
	ClientID     string `json:"client_id,omitempty"`
	ClientSecret string `json:"client_secret,omitempty"`
}

// ETag returns the entity tag of an application, which is its version.
func ETag(app *tokens.Application) string { return `"` + strconv.FormatInt(app.Version, 10) + `"` }
