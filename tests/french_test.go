// SPDX-License-Identifier: MIT

package tests

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// translations are the pages of docs/fr, and what each is a translation of.
var translations = map[string]string{
	"installation.md":      "install.md",
	"guide-integrateur.md": "integrators.md",
}

var heading = regexp.MustCompile(`(?m)^#+ `)

// TestFrench_KeepsInStep compares what needs no translation: the levels of the
// headings and the code blocks, in their order.
func TestFrench_KeepsInStep(t *testing.T) {
	pages, err := filepath.Glob("../docs/fr/*.md")
	require.NoError(t, err)
	require.Len(t, pages, len(translations), "each page is in the list")
	for french, english := range translations {
		translated, original := page(t, "../docs/fr/"+french), page(t, "../docs/"+english)
		require.Equal(t, fenced.FindAllString(original, -1), fenced.FindAllString(translated, -1), french)
		require.Equal(t,
			heading.FindAllString(fenced.ReplaceAllString(original, ""), -1),
			heading.FindAllString(fenced.ReplaceAllString(translated, ""), -1), french)
	}
}

// TestFrench_Typography looks at what a French reader sees first: a space that does
// not break before a double punctuation mark and inside quotation marks, and the
// typographic apostrophe.
func TestFrench_Typography(t *testing.T) {
	for french := range translations {
		text := fenced.ReplaceAllString(page(t, "../docs/fr/"+french), "")
		text = regexp.MustCompile("`[^`\n]*`|\\]\\([^)]*\\)|(?m)^\\|[-|]+\\|$").ReplaceAllString(text, "x")
		for line := range strings.SplitSeq(text, "\n") {
			require.NotRegexp(t, `[^\x{00a0}\x{202f}][:;!?»]|«[^\x{00a0}\x{202f}]`, line, french)
			require.NotContains(t, line, "'", french)
		}
	}
}
