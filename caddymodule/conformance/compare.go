// SPDX-License-Identifier: MIT

package conformance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"
)

// Difference is one part of an answer that differs from the recording.
type Difference struct {
	// At is "status", the name of a header, or a path into the body.
	At       string `json:"at"`
	Expected string `json:"expected"`
	Got      string `json:"got"`

	kind kind
}

// kind says what differs; a greater kind is graver.
type kind int

const (
	kindWords   kind = iota // the text of an error
	kindHeader              // a header
	kindExtra               // an extra member of a body
	kindValue               // a value in a successful answer
	kindShape               // a missing member, or one of another type
	kindPaging              // the number and order of rooms, or a link
	kindNotJSON             // an answer that should be JSON
	kindStatus
)

// comparison compares one answer with the expected one.
type comparison struct {
	shapes  map[string]any
	host    string // the host that links should have
	page    string // the requested page of a list; "" otherwise
	size    int    // rooms on a page
	gateway bool
	rooms   *int // the expected number of rooms in all, if it is known
	found   []Difference
	status  int
}

func (c *comparison) add(k kind, at, want, got string) {
	c.found = append(c.found, Difference{At: at, Expected: want, Got: got, kind: k})
}

// body compares a body. at is a path such as "results[0].url".
func (c *comparison) body(want, got any, at string) {
	switch want := want.(type) {
	case string:
		if strings.HasPrefix(want, "<") && strings.HasSuffix(want, ">") {
			c.placeholder(want, got, at)
			return
		}
		text, ok := got.(string)
		switch {
		case !ok:
			c.add(kindShape, at, "a text", typeOf(got))
		case text != want && c.status >= http.StatusBadRequest:
			c.add(kindWords, at, quoted(want), quoted(text))
		case text != want:
			c.add(kindValue, at, quoted(want), quoted(text))
		}
	case map[string]any:
		c.object(want, got, at)
	case []any:
		c.array(want, got, at)
	default:
		if want != got {
			c.add(kindValue, at, fmt.Sprint(want), typeOf(got))
		}
	}
}

func (c *comparison) object(want map[string]any, got any, at string) {
	object, ok := got.(map[string]any)
	if !ok {
		c.add(kindShape, at, "an object", typeOf(got))
		return
	}
	known := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		name, optional := strings.CutSuffix(key, "?")
		known[name] = true
		value, there := object[name]
		switch {
		case there:
			c.body(want[key], value, join(at, name))
		case !optional && (!c.gateway || want[key] != "<text or null>"): // the gateway omits null
			c.add(kindShape, join(at, name), expectation(want[key]), "nothing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !known[name] {
			c.add(kindExtra, join(at, name), "nothing", typeOf(object[name]))
		}
	}
}

func (c *comparison) array(want []any, got any, at string) {
	list, ok := got.([]any)
	if !ok {
		c.add(kindShape, at, "a list", typeOf(got))
		return
	}
	if len(want) == 1 {
		if shape, ok := want[0].(string); ok && strings.HasPrefix(shape, "<") {
			for i, element := range list {
				c.body(shape, element, fmt.Sprintf("%s[%d]", at, i))
				if len(c.found) > 0 {
					return // one difference is enough
				}
			}
			return
		}
	}
	if len(list) != len(want) {
		c.add(kindShape, at, fmt.Sprintf("a list of %d", len(want)), fmt.Sprintf("a list of %d", len(list)))
		return
	}
	for i := range want {
		c.body(want[i], list[i], fmt.Sprintf("%s[%d]", at, i))
	}
}

var (
	uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	jwtForm  = regexp.MustCompile(`^[\w-]+\.[\w-]+\.[\w-]*$`)
)

// forms are the placeholders for a type or a form of text.
var forms = map[string]func(any) bool{
	"<uuid>":         textThat(uuidForm.MatchString),
	"<jwt>":          textThat(jwtForm.MatchString),
	"<text>":         textThat(func(s string) bool { return s != "" }),
	"<level>":        textThat(func(s string) bool { return slices.Contains([]string{"public", "trusted", "restricted"}, s) }),
	"<url>":          textThat(isURL),
	"<number>":       func(v any) bool { _, ok := v.(float64); return ok },
	"<bool>":         func(v any) bool { _, ok := v.(bool); return ok },
	"<object>":       func(v any) bool { _, ok := v.(map[string]any); return ok },
	"<parse error>":  textThat(func(s string) bool { return strings.HasPrefix(s, "JSON parse error - ") }), // the rest depends on the version of Python
	"<link or null>": func(v any) bool { return v == nil || textThat(isURL)(v) },
	"<text or null>": func(v any) bool { _, ok := v.(string); return ok || v == nil },
}

func textThat(is func(string) bool) func(any) bool {
	return func(v any) bool { s, ok := v.(string); return ok && is(s) }
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

func (c *comparison) placeholder(name string, got any, at string) {
	if form, ok := forms[name]; ok {
		if !form(got) {
			c.add(kindShape, at, "a "+strings.Trim(name, "<>"), typeOf(got))
		}
		return
	}
	c.body(c.shapes[strings.Trim(name, "<>")], got, at)
	if name == "<list>" {
		c.list(got)
	}
}

// list checks the number of rooms on a page of a list, and its links.
func (c *comparison) list(got any) {
	object, _ := got.(map[string]any)
	count, isNumber := object["count"].(float64)
	results, isList := object["results"].([]any)
	if !isNumber || !isList {
		return // reported already
	}
	number := func(n int) string { return strconv.Itoa(n) }
	pages := max(1, (int(count)+c.size-1)/c.size)
	page, err := strconv.Atoi(c.page)
	if err != nil {
		page = pages // "last"
	}
	if c.rooms != nil && int(count) != *c.rooms {
		c.add(kindPaging, "count", number(*c.rooms), number(int(count)))
		return
	}
	if want := max(0, min(c.size, int(count)-(page-1)*c.size)); len(results) != want {
		c.add(kindPaging, "results", fmt.Sprintf("%s on page %d", english.Plural(want, "room", ""), page), english.Plural(len(results), "room", ""))
	}
	seen := map[any]bool{}
	for _, room := range results {
		object, _ := room.(map[string]any)
		if id := object["id"]; seen[id] {
			c.add(kindPaging, "results", "each room once", "a room twice")
		} else {
			seen[id] = true
		}
	}
	c.link("next", object["next"], page+1, page < pages)
	c.link("previous", object["previous"], page-1, page > 1)
}

func (c *comparison) link(name string, got any, page int, there bool) {
	text, isText := got.(string)
	switch {
	case !there && got != nil:
		c.add(kindPaging, name, "null", "a link")
		return
	case there && !isText:
		c.add(kindPaging, name, fmt.Sprintf("a link to page %d", page), typeOf(got))
		return
	case !there:
		return
	}
	u, err := url.Parse(text)
	if err != nil {
		return // reported already
	}
	if n := u.Query().Get("page"); n != strconv.Itoa(page) && (page != 1 || n != "") {
		c.add(kindPaging, name, fmt.Sprintf("a link to page %d", page), "a link to page "+quoted(n))
	}
	if u.Host != c.host {
		c.add(kindPaging, name, "a link to "+c.host, "a link to "+u.Host)
	}
}

// headers compares the recorded headers, without the parameters of a media type.
func (c *comparison) headers(want map[string]string, got http.Header) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		value := got.Get(name)
		if name == "Content-Type" {
			if mediaType(value) != want[name] {
				k := kindHeader
				if want[name] == jsonType {
					k = kindNotJSON
				}
				c.add(k, name, want[name], cmp.Or(value, "nothing"))
			}
			continue
		}
		switch form, isForm := forms[want[name]]; {
		case isForm && !form(value):
			c.add(kindHeader, name, "a "+strings.Trim(want[name], "<>"), cmp.Or(value, "nothing"))
		case !isForm && value != want[name]:
			c.add(kindHeader, name, want[name], cmp.Or(value, "nothing"))
		}
	}
}

const jsonType = "application/json"

func mediaType(value string) string {
	t, _, err := mime.ParseMediaType(value)
	if err != nil {
		return value
	}
	return t
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// typeOf describes a value without showing it, because it may be a room's PIN.
func typeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "a text"
	case float64:
		return "a number"
	case bool:
		return strconv.FormatBool(v)
	case []any:
		return "a list"
	}
	return "an object"
}

func expectation(want any) string {
	if s, ok := want.(string); ok {
		if strings.HasPrefix(s, "<") {
			return "a " + strings.Trim(s, "<>")
		}
		return quoted(s)
	}
	return typeOf(want)
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return "a text"
	}
	return string(b)
}
