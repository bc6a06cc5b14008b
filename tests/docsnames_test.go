// SPDX-License-Identifier: MIT

package tests

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocs_EveryNamedFileExists checks that the files, packages and tests in code spans of
// documents exist, and the files in comments.
func TestDocs_EveryNamedFileExists(t *testing.T) {
	here := readNames(t)
	for _, page := range here.pages {
		text, err := os.ReadFile(atTop(page))
		require.NoError(t, err)
		for _, m := range regexp.MustCompile("`([^`\\s]+)`").FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
			if !here.knows(m[1]) {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
	for _, file := range here.code {
		parsed, err := parser.ParseFile(token.NewFileSet(), atTop(file), nil, parser.ParseComments)
		require.NoError(t, err)
		for _, group := range parsed.Comments {
			for _, name := range regexp.MustCompile(`[\w./-]*\w\.(go|md)\b`).FindAllString(group.Text(), -1) {
				if !here.ends(strings.TrimPrefix(name, "../")) {
					t.Errorf("%s names %s, which does not exist", file, name)
				}
			}
		}
	}
}

func TestDocs_EveryNamedFileExists_CanFail(t *testing.T) {
	here := readNames(t)
	for _, gone := range []string{"tokens/feed.go", "caddymodule/gate/", "lost.go", "TestThatIsNot", "BenchmarkNothing"} {
		require.False(t, here.knows(gone), gone)
	}
	for _, there := range []string{"tokens/internal/feed", "caddymodule/", "signer.go", "TestDocs_EveryNamedFileExists", "sha256", "/docs"} {
		require.True(t, here.knows(there), there)
	}
}

// names is the contents of the repository.
type names struct {
	paths map[string]bool // of files and folders, from the top
	tests map[string]bool
	pages []string // Markdown
	code  []string // Go
}

// knows reports whether a name exists here, or does not look like the name of a file, a
// package or a test.
func (n names) knows(name string) bool {
	switch {
	case regexp.MustCompile(`^(tokens|backendclient|caddymodule|tests|deploy|docs|\.ci)/[\w./-]*$`).MatchString(name):
		return n.paths[path.Clean(name)]
	case regexp.MustCompile(`^\w+\.go$`).MatchString(name):
		return n.ends(name)
	case regexp.MustCompile(`^(Test|Benchmark|Fuzz)[A-Z]\w*$`).MatchString(name):
		return n.tests[name]
	}
	return true
}

// ends reports whether a file has this path, or a path that ends in it.
func (n names) ends(name string) bool {
	for file := range n.paths {
		if file == name || strings.HasSuffix(file, "/"+name) {
			return true
		}
	}
	return false
}

func readNames(t *testing.T) names {
	t.Helper()
	n := names{paths: map[string]bool{}, tests: map[string]bool{}}
	err := filepath.WalkDir(atTop(), func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(atTop(), name)
		require.NoError(t, err)
		rel = filepath.ToSlash(rel)
		if entry.IsDir() {
			if base := entry.Name(); rel == "bin" || rel == "dist" || base == ".git" || base == ".cache" {
				return filepath.SkipDir
			}
			n.paths[rel] = true
			return nil
		}
		n.paths[rel] = true
		switch path.Ext(rel) {
		case ".md":
			n.pages = append(n.pages, rel)
		case ".go":
			n.code = append(n.code, rel)
			if strings.HasSuffix(rel, "_test.go") {
				source, err := os.ReadFile(name)
				require.NoError(t, err)
				for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w+)\(`).FindAllStringSubmatch(string(source), -1) {
					n.tests[m[1]] = true
				}
			}
		}
		return nil
	})
	require.NoError(t, err)
	return n
}
