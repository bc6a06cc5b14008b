// SPDX-License-Identifier: MIT

// Package docs renders the page for integrators: a guide, examples in seven
// languages, the API's own description, and a form to try it. The page is whole
// without JavaScript and loads nothing from elsewhere. It knows no HTTP.
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

// anyBase stands in the examples where the base URL belongs.
const anyBase = "https://gateway.invalid"

// Assets are what the page loads, by name, with their media types.
var Assets = map[string]string{"style.css": "text/css; charset=utf-8", "try.js": "text/javascript; charset=utf-8"}

// Asset returns one of the Assets.
func Asset(name string) []byte { return mustRead(name) }

func mustRead(name string) []byte {
	content, err := files.ReadFile("files/" + name)
	if err != nil { // part of the binary
		panic(err)
	}
	return content
}

// Languages of the page. The first is for readers of neither.
var Languages = []string{"en", "fr"}

var matcher = language.NewMatcher([]language.Tag{language.English, language.French})

// Language chooses one of the Languages: the one asked for, if it is one of them,
// else by the value of Accept-Language (RFC 9110 §12.5.4).
func Language(asked, acceptLanguage string) string {
	for _, l := range Languages {
		if asked == l {
			return l
		}
	}
	const longest = 200 // beyond, parsing costs more than it tells
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

// page is what the template gets.
type page struct {
	Lang, Base string
	// Path is that of Base. Assets and requests go there: scheme and host are those
	// of the page, whatever is known of them here.
	Path     string
	W        map[string]string // words, in the page's language
	Guide    template.HTML
	Examples []example
	API      *api
}

var parsed = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page.html").ParseFS(files, "files/page.html"))
})

// Page renders the page. description is the API's, as JSON; base is the address
// that it is served at, without a slash at the end.
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

// markdown converts a text of ours.
func markdown(text string) (template.HTML, error) {
	var out bytes.Buffer
	if err := converter.Convert([]byte(text), &out); err != nil {
		return "", fmt.Errorf("converting Markdown: %w", err)
	}
	return template.HTML(out.String()), nil //nolint:gosec // a text of this binary, with HTML escaped
}

// indented is a JSON value for readers.
func indented(value json.RawMessage) string {
	var out bytes.Buffer
	if json.Indent(&out, value, "", "  ") != nil {
		return string(value)
	}
	return out.String()
}
