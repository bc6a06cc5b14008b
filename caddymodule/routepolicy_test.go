// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// restrictedApp returns an application that may act for example.com, except for
// boss@example.com.
func restrictedApp() *tokens.Application {
	return &tokens.Application{Domains: []string{"example.com"}, DeniedMails: []tokens.Mail{"boss@example.com"}}
}

func newJudge(route *Route) *routeJudge {
	return &routeJudge{route: route, rooms: roomPolicy{levels: []string{levelTrusted, levelRestricted}}, mayAct: restrictedApp().MayDelegate}
}

// spellings returns bodies that a JSON reader could take to name a user for whom the
// application may not act, mostly victim@other.org.
func spellings() map[string]string {
	s := map[string]string{
		"as it is":                   `{"email":"victim@other.org"}`,
		"escaped":                    `{"email":"victim\u0040other.org"}`,
		"all escaped":                `{"email":"\u0076\u0069\u0063tim\u0040other.org"}`,
		"escaped key":                `{"\u0065mail":"victim@other.org"}`,
		"other key":                  `{"user":"victim@other.org"}`,
		"upper-case key":             `{"EMAIL":"victim@other.org"}`,
		"title-case key":             `{"Email":"victim@other.org"}`,
		"key with a space":           `{"email ":"victim@other.org"}`,
		"empty key":                  `{"":"victim@other.org"}`,
		"upper case":                 `{"email":"VICTIM@OTHER.ORG"}`,
		"space before":               `{"email":" victim@other.org"}`,
		"space behind":               `{"email":"victim@other.org "}`,
		"line feed":                  `{"email":"victim@other.org\n"}`,
		"tab":                        `{"email":"\tvictim@other.org"}`,
		"no-break space":             `{"email":"\u00a0victim@other.org"}`,
		"zero width":                 `{"email":"\u200bvictim@other.org"}`,
		"byte order in the text":     `{"email":"\ufeffvictim@other.org"}`,
		"display name":               `{"email":"Victim <victim@other.org>"}`,
		"angle brackets":             `{"email":"<victim@other.org>"}`,
		"mailto":                     `{"email":"mailto:victim@other.org"}`,
		"quoted":                     `{"email":"\"victim\"@other.org"}`,
		"comment":                    `{"email":"victim@other.org(example.com)"}`,
		"comment before":             `{"email":"(a@example.com)victim@other.org"}`,
		"two at":                     `{"email":"victim@other.org@example.com"}`,
		"two at, reversed":           `{"email":"a@example.com@other.org"}`,
		"list, comma":                `{"email":"a@example.com,victim@other.org"}`,
		"list, semicolon":            `{"email":"a@example.com;victim@other.org"}`,
		"list, space":                `{"email":"a@example.com victim@other.org"}`,
		"array":                      `{"email":["victim@other.org"]}`,
		"second of an array":         `{"email":["a@example.com","victim@other.org"]}`,
		"array of arrays":            `{"email":[[["victim@other.org"]]]}`,
		"object":                     `{"email":{"value":"victim@other.org"}}`,
		"deep":                       `{"a":{"b":[{"c":{"d":["victim@other.org"]}}]}}`,
		"beside an allowed one":      `{"email":"a@example.com","cc":"victim@other.org"}`,
		"before an allowed one":      `{"also":"victim@other.org","email":"a@example.com"}`,
		"nested under the name":      `{"x":{"email":"victim@other.org"}}`,
		"as a key":                   `{"victim@other.org":"administrator"}`,
		"as a deep key":              `{"roles":{"victim@other.org":"administrator"}}`,
		"in a list of keys":          `{"roles":[{"victim@other.org":1}]}`,
		"twice":                      `{"email":"a@example.com","email":"victim@other.org"}`,
		"twice, reversed":            `{"email":"victim@other.org","email":"a@example.com"}`,
		"twice, escaped":             `{"email":"a@example.com","\u0065mail":"victim@other.org"}`,
		"twice, nested":              `{"x":{"email":"a@example.com","email":"victim@other.org"}}`,
		"twice, other case":          `{"email":"a@example.com","EMAIL":"victim@other.org"}`,
		"two objects":                `{"email":"a@example.com"}{"email":"victim@other.org"}`,
		"array at the top":           `[{"email":"victim@other.org"}]`,
		"text at the top":            `"victim@other.org"`,
		"byte order mark":            "\ufeff" + `{"email":"victim@other.org"}`,
		"full-width at":              `{"email":"victim\uff20other.org"}`,
		"small at":                   `{"email":"victim\ufe6bother.org"}`,
		"percent-encoded":            `{"email":"victim%40other.org"}`,
		"percent-encoded twice":      `{"email":"victim%2540other.org"}`,
		"HTML":                       `{"email":"victim&#64;other.org"}`,
		"HTML, hexadecimal":          `{"email":"victim&#x40;other.org"}`,
		"HTML, by name":              `{"email":"victim&commat;other.org"}`,
		"HTML, percent-encoded":      `{"email":"victim%26%2364%3Bother.org"}`,
		"HTML, no semicolon":         `{"email":"victim&#64other.org"}`,
		"HTML, full-width":           `{"email":"victim&#xFF20;other.org"}`,
		"percent, full-width":        `{"email":"victim%EF%BC%A0other.org"}`,
		"percent, overlong":          `{"email":"victim%C1%80other.org"}`,
		"JSON in JSON":               `{"a":"{\"email\":\"victim\\u0040other.org\"}"}`,
		"JSON in JSON, plain":        `{"a":"{\"email\":\"victim@other.org\"}"}`,
		"an escape":                  `{"email":"victim\\u0040other.org"}`,
		"an escape, braces":          `{"email":"victim\\u{40}other.org"}`,
		"an escape, short":           `{"email":"victim\\x40other.org"}`,
		"an escape, octal":           `{"email":"victim\\100other.org"}`,
		"an escape, full-width":      `{"email":"victim\\uFF20other.org"}`,
		"percent and u":              `{"email":"victim%u0040other.org"}`,
		"an escape, percent":         `{"email":"victim%5Cu0040other.org"}`,
		"percent-encoded five times": `{"email":"victim%2525252540other.org"}`,
		"in a key, percent":          `{"victim%40other.org":1}`,
		"in a key, escaped":          `{"a":{"victim\\u0040other.org":1}}`,
		"patch operations":           `[{"op":"replace","path":"/email","value":"victim@other.org"}]`,
		"lines":                      "{}\n" + `{"email":"victim@other.org"}`,
		"behind NUL":                 "{}\x00" + `{"email":"victim@other.org"}`,
		"vertical tab before":        "\v" + `{"email":"victim@other.org"}`,
		"no-break space before":      "\u00a0" + `{"email":"victim@other.org"}`,
		"UTF-16, big-endian":         "\x00{\x00\"",
		"camel case, beside":         `{"email":"a@example.com","eMail":"victim@other.org"}`,
		"with a dash, beside":        `{"email":"a@example.com","e-mail":"victim@other.org"}`,
		"subdomain":                  `{"email":"victim@sub.example.com"}`,
		"suffix":                     `{"email":"victim@example.com.other.org"}`,
		"prefix":                     `{"email":"victim@notexample.com"}`,
		"trailing dot":               `{"email":"victim@example.com."}`,
		"Kelvin sign":                `{"email":"victim@e\u212aample.com"}`,
		"full stop":                  `{"email":"victim@example\u3002com"}`,
		"full-width letters":         `{"email":"victim@\uff45xample.com"}`,
		"address literal":            `{"email":"victim@[127.0.0.1]"}`,
		"no domain":                  `{"email":"victim@"}`,
		"NUL":                        `{"email":"victim@other.org\u0000"}`,
		"NUL before":                 `{"email":"a@example.com\u0000","x":"victim@other.org"}`,
		"lone surrogate":             `{"email":"victim@other.org\ud800"}`,
		"denied":                     `{"email":"boss@example.com"}`,
		"denied, upper case":         `{"email":"Boss@Example.COM"}`,
		"not UTF-8":                  "{\"email\":\"victim@other.org\xff\"}",
		"UTF-16":                     "\xff\xfe{\x00\"\x00",
		"comment in JSON":            `{/* */"email":"victim@other.org"}`,
		"single quotes":              `{'email':'victim@other.org'}`,
		"truncated":                  `{"email":"victim@other.org"`,
		"trailing comma":             `{"email":"victim@other.org",}`,
		"NaN":                        `{"a":NaN,"email":"victim@other.org"}`,
		"form":                       `email=victim@other.org`,
		"too deep":                   strings.Repeat(`{"a":`, 40) + `"victim@other.org"` + strings.Repeat(`}`, 40),
		"internationalised":          `{"email":"victim@\u00f6ther.org"}`,
		"A-label":                    `{"email":"victim@xn--ther-5qa.org"}`,
		"behind a number":            `{"a":1e2,"email":"victim@other.org"}`,
		"in a configuration":         `{"configuration":{"owner":"victim@other.org"}}`,
		"in a sentence":              `{"message":"please add victim@other.org"}`,
		"in a web address":           `{"url":"https://victim@other.org/"}`,
		"quoted-printable":           `{"email":"victim=40other.org@other.org"}`,
		"UTF-7, and an at":           `{"email":"victim+AEA-other.org@other.org"}`,
	}
	return s
}

func TestRouteJudge_RefusesForeignMails(t *testing.T) {
	require.Greater(t, len(spellings()), 50)
	for name, body := range spellings() {
		for _, route := range []*Route{{}, {Mail: []string{"email"}}, {Mail: []string{"user_email", "email"}}} {
			forward, err := newJudge(route).judge([]byte(body))
			require.Error(t, err, "%s %v", name, route.Mail)
			require.Nil(t, forward, name)
			r := refusalOf(err, endpointOperator)
			require.Contains(t, []int{400, 403}, r.status, name)
			require.NotContains(t, strings.ToLower(string(r.body())), "victim@", name)
		}
	}
}

func TestRouteJudge_ForwardsUnchanged(t *testing.T) {
	email := &Route{Mail: []string{"email"}}
	for _, tc := range []struct {
		route *Route
		body  string
		mails []tokens.Mail
	}{
		{&Route{}, `{"email":"A@Example.com","role":"administrator"}`, nil},
		{&Route{}, `{"a":[{"b":"a@example.com"},"x"],"n":1.5e3,"t":true,"z":null}`, nil},
		{email, ` { "email" : "Alice@example.com" , "role" : "member" } `, []tokens.Mail{"alice@example.com"}},
		{email, `{"x":[{"email":["a@example.com","b@example.com","A@example.com"]}]}`, []tokens.Mail{"a@example.com", "b@example.com"}},
		{email, `{"email":null}`, nil},
		{email, `{"role":"administrator"}`, nil},
		{&Route{Mail: []string{judgeNoMail}}, `{"email":"victim@other.org","x@y":"%40"}`, nil},
		{&Route{}, `{"access_level":"restricted","name":"100% &amp; more"}`, nil},
		{&Route{}, `{"level":"x","a":"C:\\users\\x41","b":"25%u00e9 =40 \\u0041"}`, nil},
		{&Route{Mail: []string{"email", "e_mail"}}, `{"email":"a@example.com","e_mail":"b@example.com"}`, []tokens.Mail{"b@example.com", "a@example.com"}},
		{&Route{}, `{}`, nil},
	} {
		j := newJudge(tc.route)
		forward, err := j.judge([]byte(tc.body))
		require.NoError(t, err, tc.body)
		require.Equal(t, tc.body, string(forward))
		require.Equal(t, tc.mails, j.mails)
	}
	for _, empty := range []string{"", " \r\n"} {
		forward, err := newJudge(&Route{}).judge([]byte(empty))
		require.NoError(t, err)
		require.Nil(t, forward)
	}
}

func TestRouteJudge_MailFields(t *testing.T) {
	email := &Route{Mail: []string{"email"}}
	for body, status := range map[string]int{
		`{"email":"nobody"}`: 400, `{"email":""}`: 400, `{"email":1}`: 400, `{"email":true}`: 400, `{"email":{}}`: 400, `{"email":["x"]}`: 400,
		`{"email":"a@example.com","note":"b@example.com"}`: 400, `{"Email":"x"}`: 400, `{"x":{"eMail":1}}`: 400,
		`{"email":"a@other.org"}`: 403, `{"e-mail":"x"}`: 400, `{" email":1}`: 400,
	} {
		_, err := newJudge(email).judge([]byte(body))
		require.Error(t, err, body)
		require.Equal(t, status, refusalOf(err, endpointOperator).status, body)
	}
}

// The number of users that a body may name is limited, because each one costs a query of the
// store.
func TestRouteJudge_ManyUsers(t *testing.T) {
	for n, ok := range map[int]bool{maxNamedUsers: true, maxNamedUsers + 1: false} {
		mails := make([]string, n)
		for i := range mails {
			mails[i] = fmt.Sprintf("user%d@example.com", i)
		}
		body, err := json.Marshal(map[string]any{"email": append(mails, mails...)}) // repeated addresses count once
		require.NoError(t, err)
		_, err = newJudge(&Route{Mail: []string{"email"}}).judge(body)
		require.Equal(t, ok, err == nil, "%v", err)
	}
}

func TestRouteJudge_AccessLevels(t *testing.T) {
	for body, want := range map[string]string{
		`{"access_level":"public"}`:             `"Public rooms are disabled for the external API."`,
		`{"a":[{"access_level":"public"}]}`:     `"Public rooms are disabled for the external API."`,
		`{"access_level":"\u0070ublic"}`:        `"Public rooms are disabled for the external API."`,
		`{"access_level":"PUBLIC"}`:             `is not a valid choice`,
		`{"access_level":["public"]}`:           `is not a valid choice`,
		`{"access_level":null}`:                 `may not be null`,
		`{"Access_Level":"public"}`:             `access_level`,
		`{"acce\u017fs_level":"public"}`:        `access_level`,
		`{"x":{"ACCESS_LEVEL":"trusted"}}`:      `access_level`,
		`{"accessLevel":"public"}`:              `access_level`,
		`{"access-level":"public"}`:             `access_level`,
		`{" access_level ":"public"}`:           `access_level`,
		`{"access\uff3flevel":"public"}`:        `access_level`,
		`{"access\u005flevel":"public"}`:        `"Public rooms are disabled for the external API."`,
		`{"access_level":{"access_level":"x"}}`: `is not a valid choice`,
	} {
		_, err := newJudge(&Route{Mail: []string{judgeNoMail}}).judge([]byte(body))
		require.Error(t, err, body)
		r := refusalOf(err, endpointOperator)
		require.Equal(t, 400, r.status, body)
		require.Contains(t, string(r.body()), want, body)
	}
	meet := newJudge(&Route{})
	meet.rooms.levels = []string{levelsMeet}
	for _, body := range []string{`{"access_level":"public"}`, `{"access_level":"later"}`} {
		forward, err := meet.judge([]byte(body))
		require.NoError(t, err)
		require.Equal(t, body, string(forward))
	}
}

// A body that is forwarded names no mail address outside the application's domains, as
// encoding/json reads it.
func TestRouteJudge_Property(t *testing.T) {
	var value func(depth int) *rapid.Generator[any]
	text := rapid.OneOf(
		rapid.SampledFrom([]string{"a@example.com", "victim@other.org", "boss@example.com", "@", "x", "victim%40other.org", "A@EXAMPLE.com", "a@b", "email"}),
		rapid.StringMatching(`[a-z\\"@ .%0-9<>]{0,12}`),
	)
	key := rapid.OneOf(rapid.SampledFrom([]string{"email", "Email", "access_level", "role", "x@y.example"}), rapid.StringMatching(`[a-z@]{0,4}`))
	value = func(depth int) *rapid.Generator[any] {
		leaf := rapid.OneOf(rapid.Map(text, func(s string) any { return s }), rapid.Just[any](nil), rapid.Just[any](1.5), rapid.Just[any](true))
		if depth == 0 {
			return leaf
		}
		return rapid.OneOf(leaf,
			rapid.Map(rapid.SliceOfN(value(depth-1), 0, 3), func(s []any) any { return s }),
			rapid.Map(rapid.MapOfN(key, value(depth-1), 0, 3), func(m map[string]any) any { return m }))
	}
	rapid.Check(t, func(t *rapid.T) {
		body, err := json.Marshal(rapid.MapOfN(key, value(3), 0, 4).Draw(t, "body"))
		require.NoError(t, err)
		route := &Route{Mail: rapid.SampledFrom([][]string{nil, {"email"}}).Draw(t, "mail")}
		checkForwarded(t, route, body)
	})
}

// checkForwarded fails if the forwarded body has a mail address that is not allowed.
func checkForwarded(t require.TestingT, route *Route, body []byte) {
	forward, err := newJudge(route).judge(body)
	if err != nil || forward == nil {
		return
	}
	require.Equal(t, string(body), string(forward))
	var read any
	require.NoError(t, json.Unmarshal(forward, &read))
	var walk func(name string, v any) error
	walk = func(name string, v any) error {
		switch v := v.(type) {
		case string:
			if mail := tokens.Mail(strings.ToLower(v)); strings.Contains(v, "@") && restrictedApp().MayDelegate(mail) != nil {
				return fmt.Errorf("%q passed", v)
			} else if strings.Contains(v, "@") && len(route.Mail) > 0 && name != "email" {
				return fmt.Errorf("%q passed as %q", v, name)
			}
		case []any:
			for _, e := range v {
				if err := walk(name, e); err != nil {
					return err
				}
			}
		case map[string]any:
			for k, e := range v {
				if strings.Contains(k, "@") {
					return errors.New("a name passed")
				}
				if err := walk(k, e); err != nil {
					return err
				}
			}
		}
		return nil
	}
	require.NoError(t, walk("", read))
}

func FuzzRouteJudge(f *testing.F) {
	for _, body := range spellings() {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		checkForwarded(t, &Route{}, body)
		checkForwarded(t, &Route{Mail: []string{"email"}}, body)
	})
}
