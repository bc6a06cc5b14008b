// SPDX-License-Identifier: MIT

// Package option parses options of modules: their Caddyfile syntax and their
// placeholders.
package option

import (
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

// Line is an option of a block.
type Line struct {
	word, former string
	many         bool
	read         Reader
}

// Reader parses the option that the dispenser is at.
type Reader = func(*caddyfile.Dispenser) error

// Once is an option that must not be repeated.
func Once(word string, read Reader) Line { return Line{word: word, read: read} }

// Many is an option that may be repeated.
func Many(word string, read Reader) Line { return Line{word: word, read: read, many: true} }

// Formerly adds a former name of the option, which logs a warning.
func (l Line) Formerly(word string) Line {
	l.former = word
	return l
}

// Block parses a block of options. An unknown option is an error that lists the known
// ones.
func Block(d *caddyfile.Dispenser, lines ...Line) error {
	return BlockOr(d, func(d *caddyfile.Dispenser) error {
		words := make([]string, len(lines))
		for i, l := range lines {
			words[i] = l.word
		}
		return Unknown(d, words...)
	}, lines...)
}

// Unknown is the error for an option that is not one of words.
func Unknown(d *caddyfile.Dispenser, words ...string) error {
	return d.Errf("unrecognized option %q%s, expected one of: %s", d.Val(), Meant(d.Val(), words), Join(words))
}

// Meant returns a hint that names the words close to a misspelt one, or "". As for
// commands, cobra decides what is close.
func Meant(text string, words []string) string {
	known := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, word := range words {
		known.AddCommand(&cobra.Command{Use: word, Run: func(*cobra.Command, []string) {}})
	}
	near := known.SuggestionsFor(text)
	if len(near) == 0 {
		return ""
	}
	return " (did you mean " + strings.Join(near, " or ") + "?)"
}

// BlockOr is Block with a reader for unknown options.
func BlockOr(d *caddyfile.Dispenser, other Reader, lines ...Line) error {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		i := slices.IndexFunc(lines, func(l Line) bool { return d.Val() == l.word || d.Val() == l.former && l.former != "" })
		if i < 0 {
			if err := other(d); err != nil {
				return err
			}
			continue
		}
		l := lines[i]
		if seen[l.word] && !l.many {
			return d.Errf("%s is already set", l.word)
		}
		seen[l.word] = true
		if d.Val() != l.word {
			caddy.Log().Named("config.adapter.caddyfile").Warn("an option has a new name; the former one is read for one release",
				zap.String("option", l.former), zap.String("name", l.word), zap.String("file", d.File()), zap.Int("line", d.Line()))
		}
		if err := l.read(d); err != nil {
			return err
		}
	}
	return nil
}

// None refuses arguments.
func None(d *caddyfile.Dispenser) error {
	if d.CountRemainingArgs() > 0 {
		return d.ArgErr()
	}
	return nil
}

// Flag parses an option without arguments.
func Flag(dst *bool) Reader {
	return func(d *caddyfile.Dispenser) error {
		*dst = true
		return None(d)
	}
}

// One parses an option with one argument.
func One(dst *string) Reader {
	return func(d *caddyfile.Dispenser) error {
		if !d.AllArgs(dst) {
			return d.ArgErr()
		}
		return nil
	}
}

// All parses an option with one or more arguments.
func All(dst *[]string) Reader {
	return func(d *caddyfile.Dispenser) error {
		if *dst = d.RemainingArgs(); len(*dst) == 0 {
			return d.ArgErr()
		}
		return nil
	}
}

// Pair parses an option with two arguments.
func Pair(first, second *string) Reader {
	return func(d *caddyfile.Dispenser) error {
		if !d.AllArgs(first, second) {
			return d.ArgErr()
		}
		return nil
	}
}

// Append parses an option with one argument that may be repeated.
func Append(dst *[]string) Reader {
	return parsed(func(d *caddyfile.Dispenser, _, text string) error {
		*dst = append(*dst, text)
		return nil
	})
}

// parsed passes an option's one argument to parse, with the option's name.
func parsed(parse func(d *caddyfile.Dispenser, word, text string) error) Reader {
	return func(d *caddyfile.Dispenser) error {
		word := d.Val()
		var text string
		if !d.AllArgs(&text) {
			return d.ArgErr()
		}
		return parse(d, word, text)
	}
}

// Number parses an integer of at least 0.
func Number(dst *int) Reader {
	return parsed(func(d *caddyfile.Dispenser, word, text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return d.Errf("%s must be a number of at least 0, got %q", word, text)
		}
		*dst = n
		return nil
	})
}

// Positive parses an integer of at least 1.
func Positive(dst *int) Reader {
	return func(d *caddyfile.Dispenser) error {
		word := d.Val()
		if err := Number(dst)(d); err != nil {
			return err
		}
		if *dst == 0 {
			return d.Errf("%s must be at least 1", word)
		}
		return nil
	}
}

// Duration parses a positive duration.
func Duration(dst *caddy.Duration) Reader {
	return parsed(func(d *caddyfile.Dispenser, word, text string) error {
		duration, err := caddy.ParseDuration(text)
		if err != nil || duration <= 0 {
			return d.Errf("%s must be a duration such as 30s or 5m, got %q", word, text)
		}
		*dst = caddy.Duration(duration)
		return nil
	})
}

// Checked reports an error of check at the option's line.
func Checked(read Reader, check func() error) Reader {
	return func(d *caddyfile.Dispenser) error {
		if err := read(d); err != nil {
			return err
		}
		if err := check(); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

// Join lists words for an error message.
func Join(words []string) string { return strings.Join(words, ", ") }

// Choice parses one of the allowed numbers.
func Choice(dst *int, allowed ...int) Reader {
	words := make([]string, len(allowed))
	for i, a := range allowed {
		words[i] = strconv.Itoa(a)
	}
	return parsed(func(d *caddyfile.Dispenser, word, text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || !slices.Contains(allowed, n) {
			return d.Errf("%s: unknown value %q, expected one of: %s", word, text, Join(words))
		}
		*dst = n
		return nil
	})
}

// Word parses one of the allowed words.
func Word(dst *string, allowed ...string) Reader {
	return parsed(func(d *caddyfile.Dispenser, word, text string) error {
		if !slices.Contains(allowed, text) {
			return d.Errf("%s: unknown value %q%s, expected one of: %s", word, text, Meant(text, allowed), Join(allowed))
		}
		*dst = text
		return nil
	})
}

// Size parses a number of bytes, such as 64KiB.
func Size(dst *int64) Reader {
	return parsed(func(d *caddyfile.Dispenser, word, text string) error {
		const most = 64 << 20
		size, err := humanize.ParseBytes(text)
		if err != nil || size == 0 || size > most {
			return d.Errf("%s must be a size such as 64KiB, up to 64MiB, got %q", word, text)
		}
		*dst = int64(size)
		return nil
	})
}
