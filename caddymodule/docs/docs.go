// SPDX-License-Identifier: MIT

// Package docs renders the page for integrators: a guide, examples in seven languages, the
// OpenAPI description, and a form to try the API. The page works without JavaScript and
// loads nothing from other servers. Use [Page], [Asset] and [Language].
package docs

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"sync"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"golang.org/x/text/language"
)

//go:embed files
var files embed.FS

// ContentSecurityPolicy allows the page its own style, script and requests, and
// nothing inline.
const ContentSecurityPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// anyBase is the placeholder for the base URL in the examples.
const anyBase = "https://gateway.invalid"

// Assets are the files that the page loads, with their media types.
var Assets = map[string]string{"style.css": "text/css; charset=utf-8", "try.js": "text/javascript; charset=utf-8"}

// Asset returns one of the Assets.
func Asset(name string) []byte { return mustRead(name) }

func mustRead(name string) []byte {
	content, err := files.ReadFile("files/" + name)
	if err != nil { // it is part of the binary
		panic(err)
	}
	return content
}

// Languages are the languages of the page. The first one is the default.
var Languages = []string{"en", "fr"}

var matcher = language.NewMatcher([]language.Tag{language.English, language.French})

// Language returns the requested language if it is one of [Languages], else the best match
// for the value of Accept-Language (RFC 9110 §12.5.4).
func Language(asked, acceptLanguage string) string {
	for _, l := range Languages {
		if asked == l {
			return l
		}
	}
	const longest = 200 // longer values cost more to parse than they are worth
	tags, _, err := language.ParseAcceptLanguage(acceptLanguage[:min(len(acceptLanguage), longest)])
	if err != nil {
		return Languages[0]
	}
	_, i, _ := matcher.Match(tags...)
	return Languages[i]
}

// example is a program that creates a room.
type example struct{ Name, File, Code string }

var exampleFiles = []example{
	{Name: "curl", File: "curl.sh"},
	{Name: "Python", File: "python.py"},
	{Name: "JavaScript", File: "javascript.mjs"},
	{Name: "Go", File: "go.txt"},
	{Name: "Java", File: "Java.java"},
	{Name: "PHP", File: "php.php"},
	{Name: "C#", File: "CSharp.cs"},
}

// page is the data of the template.
type page struct {
	Lang, Base string
	// Path is the path of Base. Assets and requests use it with the scheme and host of the
	// page, which a proxy may have changed.
	Path     string
	W        map[string]string // words, in the page's language
	Guide    template.HTML
	Examples []example
	API      *api
}

var parsed = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page.html").ParseFS(files, "files/page.html"))
})

// Page renders the page. description is the OpenAPI document as JSON; base is the public
// address of the API, without a trailing slash.
func Page(description []byte, base, lang string) ([]byte, error) {
	address, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("the base URL: %w", err)
	}
	described, err := parse(description, lang)
	if err != nil {
		return nil, err
	}
	guide, err := markdown(string(mustRead("guide." + lang + ".md")))
	if err != nil {
		return nil, err
	}
	p := page{Lang: lang, Base: base, Path: address.EscapedPath(), W: words[lang], Guide: guide, API: described}
	for _, e := range exampleFiles {
		e.Code = strings.ReplaceAll(string(mustRead("examples/"+e.File)), anyBase, base)
		p.Examples = append(p.Examples, e)
	}
	var out bytes.Buffer
	if err := parsed().Execute(&out, p); err != nil {
		return nil, fmt.Errorf("rendering the page for integrators: %w", err)
	}
	return out.Bytes(), nil
}

var converter = goldmark.New(goldmark.WithExtensions(extension.Table)) // escapes HTML

// markdown renders a text of this binary.
func markdown(text string) (template.HTML, error) {
	var out bytes.Buffer
	if err := converter.Convert([]byte(text), &out); err != nil {
		return "", fmt.Errorf("converting Markdown: %w", err)
	}
	return template.HTML(out.String()), nil //nolint:gosec // HTML is escaped
}

// indented formats a JSON value for readers.
func indented(value json.RawMessage) string {
	var out bytes.Buffer
	if json.Indent(&out, value, "", "  ") != nil {
		return string(value)
	}
	return out.String()
}
