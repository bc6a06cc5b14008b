// SPDX-License-Identifier: MIT

package tokens

import "github.com/meet-gateway/meet-gateway/tokens/internal/installation"

// Fields of applications and users as they are stored.
const (
	fieldGeneration  = installation.FieldGeneration
	prefixGrantGen   = "g:" // in users: + application id
	fieldDocument    = "d"  // in applications, as the following
	fieldVersion     = "v"
	fieldLastUsed    = "u"
	prefixSecretUsed = "s:" // + secret id
)
