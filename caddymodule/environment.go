// SPDX-License-Identifier: MIT

package caddymodule

import (
	"fmt"
	"os"
)

// emptyVariable says so of a variable that the shipped Caddyfile takes an argument
// from. A file of variables (--envfile) is read later than the process's own environment.
func emptyVariable(name string) string {
	if value, set := os.LookupEnv(name); !set || value != "" {
		return ""
	}
	return fmt.Sprintf(" (%s is set and empty: unset it, or give it a value)", name)
}
