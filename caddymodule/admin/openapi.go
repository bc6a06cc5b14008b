// SPDX-License-Identifier: MIT

package admin

import (
	_ "embed"
	"net/http"
)

// description is the OpenAPI document of this API. Tests check every exchange against it.
//
//go:embed openapi.yaml
var description []byte

// showDescription answers GET openapi.yaml.
func (c *call) showDescription() error {
	c.w.Header().Set("Content-Type", "application/yaml") // RFC 9512
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(description)
	return nil
}
