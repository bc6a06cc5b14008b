// SPDX-License-Identifier: MIT

// Package option reads the options of modules: their words in a Caddyfile, and the
// placeholders in their texts.
package option

import (
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// Seen refuses repeats: the second of two would win without a word.
type Seen map[string]bool

// Add refuses the option the dispenser is at if it was there before.
func (s Seen) Add(d *caddyfile.Dispenser) error {
	if s[d.Val()] {
		return d.Errf("%s is already set", d.Val())
	}
	s[d.Val()] = true
	return nil
}

// None refuses arguments.
func None(d *caddyfile.Dispenser) error {
	if d.CountRemainingArgs() > 0 {
		return d.ArgErr()
	}
	return nil
}

// One reads the one argument of an option.
func One(d *caddyfile.Dispenser, dst *string) error {
	if !d.AllArgs(dst) {
		return d.ArgErr()
	}
	return nil
}

// Number reads a number from 0 up.
func Number(d *caddyfile.Dispenser, dst *int) error {
	option := d.Val()
	var text string
	if err := One(d, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return d.Errf("%s must be a number from 0 up, got %q", option, text)
	}
	*dst = n
	return nil
}

// Positive reads a number from 1 up.
func Positive(d *caddyfile.Dispenser, dst *int) error {
	name := d.Val()
	if err := Number(d, dst); err != nil {
		return err
	}
	if *dst == 0 {
		return d.Errf("%s must be at least 1", name)
	}
	return nil
}

// Duration reads a duration, which must be positive.
func Duration(d *caddyfile.Dispenser, dst *caddy.Duration) error {
	option := d.Val()
	var text string
	if err := One(d, &text); err != nil {
		return err
	}
	duration, err := caddy.ParseDuration(text)
	if err != nil || duration <= 0 {
		return d.Errf("%s must be a duration such as 30s or 5m, got %q", option, text)
	}
	*dst = caddy.Duration(duration)
	return nil
}

// Unknown names the word that is not understood and those that are.
func Unknown(d *caddyfile.Dispenser, allowed ...string) error {
	return d.Errf("unrecognized option %q, expected one of: %s", d.Val(), Join(allowed))
}

// Join lists words for an error.
func Join(words []string) string { return strings.Join(words, ", ") }

// Choice reads one of two status codes.
func Choice(d *caddyfile.Dispenser, dst *int, allowed ...int) error {
	option := d.Val()
	var text string
	if err := One(d, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || !slices.Contains(allowed, n) {
		words := make([]string, len(allowed))
		for i, a := range allowed {
			words[i] = strconv.Itoa(a)
		}
		return d.Errf("%s: unknown value %q, expected one of: %s", option, text, Join(words))
	}
	*dst = n
	return nil
}

// Word reads one of some words.
func Word(d *caddyfile.Dispenser, dst *string, allowed ...string) error {
	option := d.Val()
	var text string
	if err := One(d, &text); err != nil {
		return err
	}
	if !slices.Contains(allowed, text) {
		return d.Errf("%s: unknown value %q, expected one of: %s", option, text, Join(allowed))
	}
	*dst = text
	return nil
}

// Words reads some of some words, each once.
func Words(d *caddyfile.Dispenser, dst *[]string, allowed ...string) error {
	option := d.Val()
	words := d.RemainingArgs()
	if len(words) == 0 {
		return d.ArgErr()
	}
	for i, word := range words {
		if !slices.Contains(allowed, word) {
			return d.Errf("%s: unknown value %q, expected some of: %s", option, word, Join(allowed))
		}
		if slices.Contains(words[:i], word) {
			return d.Errf("%s: duplicate %s", option, word)
		}
	}
	*dst = words
	return nil
}

// Size reads a number of bytes, such as 64KiB.
func Size(d *caddyfile.Dispenser, dst *int64) error {
	option := d.Val()
	var text string
	if err := One(d, &text); err != nil {
		return err
	}
	const most = 64 << 20
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > most {
		return d.Errf("%s must be a size such as 64KiB, up to 64MiB, got %q", option, text)
	}
	*dst = int64(size)
	return nil
}

// Append reads one argument of an option that may be there several times.
func Append(d *caddyfile.Dispenser, dst *[]string) error {
	var text string
	if err := One(d, &text); err != nil {
		return err
	}
	*dst = append(*dst, text)
	return nil
}
