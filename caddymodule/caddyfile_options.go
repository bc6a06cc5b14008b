package caddymodule

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// seenOptions refuses repeats: the second of two would win without a word.
type seenOptions map[string]bool

func (s seenOptions) add(d *caddyfile.Dispenser) error {
	if s[d.Val()] {
		return d.Errf("%s is already set", d.Val())
	}
	s[d.Val()] = true
	return nil
}

func noArgs(d *caddyfile.Dispenser) error {
	if d.CountRemainingArgs() > 0 {
		return d.ArgErr()
	}
	return nil
}

func oneArg(d *caddyfile.Dispenser, dst *string) error {
	if !d.AllArgs(dst) {
		return d.ArgErr()
	}
	return nil
}

func numberArg(d *caddyfile.Dispenser, dst *int) error {
	option := d.Val()
	var text string
	if err := oneArg(d, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return d.Errf("%s must be a number from 0 up, got %q", option, text)
	}
	*dst = n
	return nil
}

func durationArg(d *caddyfile.Dispenser, dst *caddy.Duration) error {
	option := d.Val()
	var text string
	if err := oneArg(d, &text); err != nil {
		return err
	}
	duration, err := caddy.ParseDuration(text)
	if err != nil || duration <= 0 {
		return d.Errf("%s must be a duration such as 30s or 5m, got %q", option, text)
	}
	*dst = caddy.Duration(duration)
	return nil
}

// unknownOption names the word that is not understood and those that are.
func unknownOption(d *caddyfile.Dispenser, allowed ...string) error {
	return d.Errf("unrecognized option %q, expected one of: %s", d.Val(), joinWords(allowed))
}

func joinWords(words []string) string { return strings.Join(words, ", ") }
