// SPDX-License-Identifier: MIT

package command

import (
	"time"

	"github.com/caddyserver/caddy/v2"
)

// duration is a flag for durations as in a Caddyfile, such as 30m or 7d.
type duration time.Duration

// String implements pflag.Value.
func (d *duration) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

// Set implements pflag.Value.
func (d *duration) Set(text string) error {
	v, err := caddy.ParseDuration(text)
	*d = duration(v)
	return err
}

// Type implements pflag.Value.
func (*duration) Type() string { return "duration" }
