// SPDX-License-Identifier: MIT

package tests

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// translations maps the pages of docs/fr to their originals.
var translations = map[string]string{
	"installation.md":      "install.md",
	"guide-integrateur.md": "integrators.md",
}

var heading = regexp.MustCompile(`(?m)^#+ `)

// TestFrench_KeepsInStep compares the levels of headings and the code blocks with the English
// pages.
func TestFrench_KeepsInStep(t *testing.T) {
	pages, err := filepath.Glob("../docs/fr/*.md")
	require.NoError(t, err)
	require.Len(t, pages, len(translations), "each page is in translations")
	for french, english := range translations {
		translated, original := page(t, "../docs/fr/"+french), page(t, "../docs/"+english)
		require.Equal(t, fenced.FindAllString(original, -1), fenced.FindAllString(translated, -1), french)
		require.Equal(t,
			heading.FindAllString(fenced.ReplaceAllString(original, ""), -1),
			heading.FindAllString(fenced.ReplaceAllString(translated, ""), -1), french)
	}
}

// TestFrench_Typography checks for a non-breaking space before double punctuation and
// inside quotation marks, and for typographic apostrophes.
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
