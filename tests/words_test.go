// SPDX-License-Identifier: MIT

package tests

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// retired maps words that code, texts and documents no longer use to their
// replacements. docs/glossary.md explains the latter.
var retired = map[string]string{
	`bornAgain|recordAgain|rotateAgain|createAgain|tellAgain`: "journal.Replay",
	`orSettling|editLog|changeLog`:                            "Refuse, or the journal",
	`StoreWentBack`:                                           "StoreRolledBack",
	`mayAsk`:                                                  "checkRateLimit",
	`sayInOAuth|pointToMetadata`:                              "useOAuthCode, addResourceMetadata",
	`giveBack|madeNobody`:                                     "refundQuota, isDefiniteRefusal",
	`newTurns|newDeadlines`:                                   "newFairQueue, newTimeoutPool",
	`guestTransport|guestRequest`:                             "upstream.Upstream",
	`AuthenticateIf`:                                          "FindClient and CheckSecret",
	`orDefault|setDefault|orPort`:                             "cmp.Or",
	`[Rr]edis is away|Meet is away`:                           "is unavailable",
	`[Mm]ends? (it|the request)`:                              "fix",
	`is there twice`:                                          "duplicate",
	`[Ww]hoever is told|[Ww]ho was told`:                      "a subject and a verb",
}

// retiredInProse are words that documents, configuration files and comments do not use either.
var retiredInProse = map[string]string{
	`[Ww]hoever|[Ww]homever`:   "a subject and a verb",
	`(?:is|are|was|were) away`: "unavailable",
	`[Mm]ends?|[Mm]ended`:      "fix",
	`[Tt]ill|by then`:          "until, meanwhile",
	`[Tt]urned away|hangs? up`: "refused, disconnects",
	`[Aa]s good as`:            "what is meant",
}

func TestRetiredWords(t *testing.T) {
	err := filepath.WalkDir(atTop(), func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); name != atTop() && (strings.HasPrefix(base, ".") || base == "testdata" || name == atTop("bin") || name == atTop("dist")) {
				return filepath.SkipDir
			}
			return nil
		}
		if ext := filepath.Ext(name); ext != ".go" && ext != ".md" && ext != ".yaml" || entry.Name() == "words_test.go" || entry.Name() == "CHANGELOG.md" || entry.Name() == "benchmarks.md" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		prose := text
		if filepath.Ext(name) == ".go" {
			if prose, err = onlyComments(text); err != nil {
				return err
			}
		}
		for _, f := range append(retiredIn(text, retired), retiredIn(prose, retiredInProse)...) {
			t.Errorf("%s: %s", name, f)
		}
		return nil
	})
	require.NoError(t, err)
}

func TestRetiredWords_CanFail(t *testing.T) {
	require.Len(t, retiredIn([]byte("func (c *call) mayAsk() // while Redis is away\n"), retired), 2)
	require.Empty(t, retiredIn([]byte("while Redis is unavailable, and not mayAskNow\n"), retired, retiredInProse))

	comments, err := onlyComments([]byte("package p\n\n// f waits till é.\nfunc f() { println(\"is away\") /* whoever */ }\n"))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"line 3: till is retired; say until, meanwhile", "line 4: whoever is retired; say a subject and a verb"}, retiredIn(comments, retiredInProse))
}

// onlyComments returns Go source with blanks in place of code, so that comments keep their lines.
func onlyComments(source []byte) ([]byte, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, "", source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	blanked := make([]byte, len(source))
	for i, b := range source {
		blanked[i] = ' '
		if b == '\n' {
			blanked[i] = b
		}
	}
	for _, group := range parsed.Comments {
		for _, c := range group.List {
			copy(blanked[files.Position(c.Pos()).Offset:], c.Text)
		}
	}
	return blanked, nil
}

// retiredIn returns the retired words in a text, with their lines and replacements.
func retiredIn(text []byte, lists ...map[string]string) (found []string) {
	for _, list := range lists {
		for words, instead := range list {
			for _, at := range regexp.MustCompile(`\b(`+words+`)\b`).FindAllIndex(text, -1) {
				line := 1 + bytes.Count(text[:at[0]], []byte("\n"))
				found = append(found, "line "+strconv.Itoa(line)+": "+string(text[at[0]:at[1]])+" is retired; say "+instead)
			}
		}
	}
	return found
}
