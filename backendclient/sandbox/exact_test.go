// SPDX-License-Identifier: MIT

package sandbox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// maxDepth is the depth at which Python reaches its recursion limit, which Meet answers with
// a 500. The recording has depths of 500 and 100,000.
const maxDepth = 900

// pythonError is an error in Python's words.
type pythonError string

func (e pythonError) Error() string { return string(e) }

// jsonError is Python's JSONDecodeError: what was wrong, and at which character.
type jsonError struct {
	what string
	at   int
	text string
}

func (e *jsonError) Error() string {
	before := e.text[:e.at]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Sprintf("%s: line %d column %d (char %d)", e.what, line, column, utf8.RuneCountInString(before))
}

// exactJSON reads JSON as Django REST framework's strict JSONParser does. It reports errors in
// Python's words, keeps the last of two equal keys, and accepts half a surrogate pair.
func exactJSON(body []byte) (any, error) {
	if err := checkUTF8(body); err != nil {
		return nil, err
	}
	p := &jsonParser{text: string(body)}
	if strings.HasPrefix(p.text, "\ufeff") {
		return nil, p.fail("Unexpected UTF-8 BOM (decode using utf-8-sig)", 0)
	}
	p.space()
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.text) {
		return nil, p.fail("Extra data", p.at)
	}
	return v, nil
}

// checkUTF8 reports the first invalid byte in the words of Python's decoder.
func checkUTF8(b []byte) error {
	for at := 0; at < len(b); {
		r, size := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && size == 1 {
			reason := "invalid start byte"
			if lead := b[at]; lead >= 0xc2 && lead <= 0xf4 {
				reason = "invalid continuation byte"
				if at+1 == len(b) {
					reason = "unexpected end of data"
				}
			}
			return fmt.Errorf("'utf-8' codec can't decode byte 0x%02x in position %d: %s", b[at], at, reason)
		}
		at += size
	}
	return nil
}

type jsonParser struct {
	text string
	at   int
}

func (p *jsonParser) fail(what string, at int) error {
	return &jsonError{what: what, at: at, text: p.text}
}

func (p *jsonParser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\n\r", p.text[p.at]) >= 0 {
		p.at++
	}
}

// next consumes the byte if it comes next.
func (p *jsonParser) next(b byte) bool {
	if p.at < len(p.text) && p.text[p.at] == b {
		p.at++
		return true
	}
	return false
}

// word consumes the word if it comes next.
func (p *jsonParser) word(w string) bool {
	if strings.HasPrefix(p.text[p.at:], w) {
		p.at += len(w)
		return true
	}
	return false
}

func (p *jsonParser) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, sandbox.ErrTooDeep
	}
	start := p.at
	switch {
	case p.next('"'):
		return p.string()
	case p.next('{'):
		return p.object(depth)
	case p.next('['):
		return p.list(depth)
	case p.word("null"):
		return nil, nil
	case p.word("true"):
		return true, nil
	case p.word("false"):
		return false, nil
	}
	for _, w := range []string{"NaN", "Infinity", "-Infinity"} {
		if p.word(w) {
			return nil, pythonError("Out of range float values are not JSON compliant: '" + w + "'")
		}
	}
	literal, isInteger := p.number()
	switch {
	case literal == "":
		return nil, p.fail("Expecting value", start)
	case literal == "-0" && isInteger:
		return json.Number("0"), nil
	case isInteger && len(strings.TrimPrefix(literal, "-")) > maxDigits:
		return nil, pythonError(fmt.Sprintf("Exceeds the limit (%d digits) for integer string conversion: value has %d digits; "+
			"use sys.set_int_max_str_digits() to increase the limit", maxDigits, len(strings.TrimPrefix(literal, "-"))))
	case isInteger:
		return json.Number(literal), nil
	}
	f, _ := strconv.ParseFloat(literal, 64) // infinite where out of range
	return f, nil
}

// maxDigits is the maximum number of digits of an integer in Python.
const maxDigits = 4300

func (p *jsonParser) object(depth int) (any, error) {
	o := &sandbox.Object{Values: map[string]any{}}
	p.space()
	if p.next('}') {
		return o, nil
	}
	for {
		if !p.next('"') {
			return nil, p.fail("Expecting property name enclosed in double quotes", p.at)
		}
		key, err := p.string()
		if err != nil {
			return nil, err
		}
		p.space()
		if !p.next(':') {
			return nil, p.fail("Expecting ':' delimiter", p.at)
		}
		p.space()
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if _, again := o.Values[key]; !again {
			o.Keys = append(o.Keys, key)
		}
		o.Values[key] = v
		p.space()
		if p.next('}') {
			return o, nil
		}
		if !p.next(',') {
			return nil, p.fail("Expecting ',' delimiter", p.at)
		}
		p.space()
	}
}

func (p *jsonParser) list(depth int) (any, error) {
	list := []any{}
	p.space()
	if p.next(']') {
		return list, nil
	}
	for {
		p.space()
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		p.space()
		if p.next(']') {
			return list, nil
		}
		if !p.next(',') {
			return nil, p.fail("Expecting ',' delimiter", p.at)
		}
	}
}

// string reads a string after its opening quote.
func (p *jsonParser) string() (string, error) {
	start := p.at - 1
	var b strings.Builder
	for p.at < len(p.text) {
		ch := p.text[p.at]
		switch {
		case ch == '"':
			p.at++
			return b.String(), nil
		case ch < ' ':
			return "", p.fail("Invalid control character at", p.at)
		case ch != '\\':
			b.WriteByte(ch)
			p.at++
		default:
			if err := p.escape(&b); err != nil {
				if errors.Is(err, errUnterminated) {
					return "", p.fail(err.Error(), start)
				}
				return "", err
			}
		}
	}
	return "", p.fail(errUnterminated.Error(), start)
}

const errUnterminated = pythonError("Unterminated string starting at")

var simpleEscapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads an escape sequence.
func (p *jsonParser) escape(b *strings.Builder) error {
	if p.at+1 >= len(p.text) {
		return errUnterminated
	}
	ch := p.text[p.at+1]
	if ch != 'u' {
		plain, ok := simpleEscapes[ch]
		if !ok {
			return p.fail("Invalid \\escape", p.at)
		}
		b.WriteByte(plain)
		p.at += 2
		return nil
	}
	r, ok := p.unicodeEscape(p.at)
	if !ok {
		return p.fail("Invalid \\uXXXX escape", p.at+1)
	}
	p.at += 6
	if low, ok := p.unicodeEscape(p.at); ok && utf16.IsSurrogate(r) {
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			r = pair
			p.at += 6
		}
	}
	if utf16.IsSurrogate(r) {
		// Three bytes, as in UTF-8 if surrogates were allowed there.
		b.Write([]byte{0xe0 | byte(r>>12), 0x80 | byte(r>>6)&0x3f, 0x80 | byte(r)&0x3f})
		return nil
	}
	b.WriteRune(r)
	return nil
}

// unicodeEscape reads \uXXXX at the position, if it is there.
func (p *jsonParser) unicodeEscape(at int) (rune, bool) {
	if len(p.text) < at+6 || p.text[at:at+2] != `\u` {
		return 0, false
	}
	n, err := strconv.ParseUint(p.text[at+2:at+6], 16, 16)
	return rune(n), err == nil
}

// number consumes the longest number that comes next. There may be none.
func (p *jsonParser) number() (literal string, isInteger bool) {
	rest := p.text[p.at:]
	// The pattern gets only the characters of numbers, because the rest may be long.
	rest = rest[:len(rest)-len(strings.TrimLeft(rest, "+-.0123456789eE"))]
	literal = numberPattern.FindString(rest)
	p.at += len(literal)
	return literal, !strings.ContainsAny(literal, ".eE")
}

var numberPattern = regexp.MustCompile(`^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?`)
