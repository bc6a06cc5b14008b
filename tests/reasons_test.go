// SPDX-License-Identifier: MIT

package tests

import (
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocs_EveryReasonIsExplained checks that docs/refusals.md has every refusal reason in the code.
// It fails on a reason in a form that it cannot read.
func TestDocs_EveryReasonIsExplained(t *testing.T) {
	doc, err := os.ReadFile("../docs/refusals.md")
	require.NoError(t, err)
	found := map[string]string{} // reasons, and their places in the code
	var unread []string
	for _, root := range []string{"../caddymodule", "../tokens"} {
		require.NoError(t, filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			p := readReasons(t, dir)
			maps.Copy(found, p.found)
			unread = append(unread, p.unread...)
			return nil
		}))
	}
	// Reasons that are neither literals nor constants.
	handedOn := []string{
		`caddymodule/limits.go: "limit_" + d.Policy.String()`, // the documentation has them as limit_…
		"caddymodule/identity.go: code",                       // from identityRefusal, whose callers are read
		"caddymodule/errors.go: tokens.Reason(err)",           // from the callers of deny
		"tokens/grants.go: Reason(err)", "tokens/refresh.go: Reason(err)",
	}
	slices.Sort(unread)
	require.ElementsMatch(t, handedOn, slices.Compact(unread), "this test cannot read these reasons")
	require.Greater(t, len(found), 90, "too few reasons found")
	for reason, at := range found {
		if strings.Contains(string(doc), "`"+reason+"`") {
			delete(found, reason)
			continue
		}
		t.Logf("%s is made in %s", reason, at)
	}
	require.Empty(t, slices.Sorted(maps.Keys(found)), "not in docs/refusals.md")
}

// reasonReader finds reasons in the files of one package.
type reasonReader struct {
	fset      *token.FileSet
	consts    map[string]string
	functions map[string]*ast.FuncDecl
	// refuses is false where a field named reason is not a refusal reason.
	refuses bool
	found   map[string]string
	unread  []string
}

func readReasons(t *testing.T, dir string) *reasonReader {
	t.Helper()
	r := &reasonReader{fset: token.NewFileSet(), consts: map[string]string{}, functions: map[string]*ast.FuncDecl{}, found: map[string]string{}}
	r.refuses = dir == "../caddymodule" || strings.HasPrefix(dir, "../tokens") && !strings.HasPrefix(dir, "../tokens/django")
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(r.fset, path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, file)
		for _, decl := range file.Decls {
			r.declared(decl)
		}
	}
	for _, file := range files {
		ast.Inspect(file, r.visit)
	}
	return r
}

// declared notes text constants and functions.
func (r *reasonReader) declared(decl ast.Decl) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		r.functions[decl.Name.Name] = decl
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			values, ok := spec.(*ast.ValueSpec)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			for i, value := range values.Values {
				if text, ok := literal(value); ok {
					r.consts[values.Names[i].Name] = text
				}
			}
		}
	}
}

func (r *reasonReader) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.KeyValueExpr: // refusal{reason: …}, Denial{Reason: …}
		if name, ok := n.Key.(*ast.Ident); ok && r.refuses && strings.EqualFold(name.Name, "reason") {
			r.read(n.Value)
		}
	case *ast.AssignStmt: // r.reason = …, reason := …
		for i, left := range n.Lhs {
			if field, ok := left.(*ast.SelectorExpr); ok {
				left = field.Sel
			}
			if name, ok := left.(*ast.Ident); ok && name.Name == "reason" && r.refuses && len(n.Rhs) == len(n.Lhs) {
				r.read(n.Rhs[i])
			}
		}
	case *ast.CallExpr:
		switch name := calledName(n); {
		case strings.EqualFold(name, "deny") && len(n.Args) == 2, name == "goneIsInvalid":
			r.read(n.Args[1])
		case name == "identityRefusal":
			r.read(n.Args[0])
		}
	}
	return true
}

// read takes the reason from an expression.
func (r *reasonReader) read(e ast.Expr) {
	if text, ok := literal(e); ok {
		r.found[text] = r.fset.Position(e.Pos()).String()
		return
	}
	switch e := e.(type) {
	case *ast.Ident:
		if e.Name == "reason" {
			return // a variable or a parameter, whose assignments are read
		}
		if text, ok := r.consts[e.Name]; ok {
			r.found[text] = r.fset.Position(e.Pos()).String()
			return
		}
	case *ast.CallExpr:
		if f := r.functions[calledName(e)]; f != nil && f.Name.Name != "Reason" {
			ast.Inspect(f.Body, func(n ast.Node) bool {
				if ret, ok := n.(*ast.ReturnStmt); ok {
					r.read(ret.Results[0])
				}
				return true
			})
			return
		}
	}
	var b strings.Builder
	_ = printer.Fprint(&b, r.fset, e) // writing to memory does not fail
	r.unread = append(r.unread, strings.TrimPrefix(r.fset.Position(e.Pos()).Filename, "../")+": "+b.String())
}

// calledName returns the name of the called function or method.
func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// literal returns the value of a string literal.
func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}
