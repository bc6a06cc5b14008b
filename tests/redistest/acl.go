// SPDX-License-Identifier: MIT

package redistest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ACLPassword is the password in the commands of DocumentedUser.
const ACLPassword = "acl-test-password"

// DocumentedUser returns the ACL SETUSER command that docs/redis.md has for a user. The
// test must run in a folder of the module.
func DocumentedUser(t testing.TB, name string) (command []any) {
	t.Helper()
	top, err := filepath.Abs(".")
	if err != nil {
		t.Fatal("redistest:", err)
	}
	for !exists(filepath.Join(top, "go.mod")) && top != filepath.Dir(top) {
		top = filepath.Dir(top)
	}
	doc, err := os.ReadFile(filepath.Join(top, "docs", "redis.md"))
	if err != nil {
		t.Fatal("redistest:", err)
	}
	line := regexp.MustCompile(`(?m)^ACL SETUSER ` + name + ` .*$`).FindString(string(doc))
	if line == "" {
		t.Fatal("redistest: docs/redis.md has no user " + name)
	}
	for word := range strings.FieldsSeq(strings.Replace(line, ">PASSWORD", ">"+ACLPassword, 1)) {
		command = append(command, word)
	}
	return command
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
