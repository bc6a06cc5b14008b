// SPDX-License-Identifier: MIT

// Package djangotest writes dumps of Meet's applications for tests.
package djangotest

import (
	"bufio"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
)

// Options of [WriteDump]. The zero value is an empty dump.
type Options struct {
	// Applications is the number of applications.
	Applications int
	// Domains is the number of mail domains of each. Default: 0, which at Meet allows every
	// domain.
	Domains int
	// Iterations is the PBKDF2 cost of the secrets. Default: 1; Meet has 1,000,000.
	Iterations int
	// Lines writes one object a line (dumpdata --format jsonl).
	Lines bool
}

// WriteDump writes a dump as manage.py dumpdata does: all applications, then all domains.
// Application i has PK(i), ClientID(i), Secret(i), the scopes rooms:list and rooms:create, and
// the domains Domain(i, 0), Domain(i, 1) and so on. All are active.
func WriteDump(w io.Writer, o Options) error {
	d := writer{w: bufio.NewWriter(w), lines: o.Lines}
	d.open()
	for i := range o.Applications {
		d.object(`{"model": "core.application", "pk": %q, "fields": {`+
			`"created_at": "2026-03-11T14:39:00.123Z", "updated_at": "2026-03-11T15:39:00Z", `+
			`"name": "Application %d", "is_active": true, "client_id": %q, "client_secret": %q, `+
			`"scopes": "[\"rooms:list\", \"rooms:create\"]"}}`,
			PK(i), i, ClientID(i), Hash(Secret(i), "salt"+strconv.Itoa(i), max(o.Iterations, 1)))
	}
	for i := range o.Applications {
		for j := range o.Domains {
			d.object(`{"model": "core.applicationdomain", "pk": "00000000-0000-4000-9%03x-%012x", "fields": {`+
				`"created_at": "2026-03-11T14:39:00.123Z", "updated_at": "2026-03-11T14:39:00.123Z", `+
				`"domain": %q, "application": %q}}`, j, i, Domain(i, j), PK(i))
		}
	}
	return d.close()
}

// PK returns the primary key of application i, a UUID.
func PK(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", i) }

// ClientID returns the client id of application i: 40 letters and digits, as at Meet.
func ClientID(i int) string { return fmt.Sprintf("client%034d", i) }

// Secret returns the secret of application i: 128 letters and digits, as at Meet.
func Secret(i int) string { return fmt.Sprintf("secret%0122d", i) }

// Domain returns mail domain j of application i.
func Domain(i, j int) string { return fmt.Sprintf("d%d.platform%d.example", j, i) }

// Hash returns the hash of Django's PBKDF2PasswordHasher. It panics if FIPS 140 mode refuses
// the parameters.
func Hash(secret, salt string, iterations int) string {
	key, err := pbkdf2.Key(sha256.New, secret, []byte(salt), iterations, sha256.Size)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("pbkdf2_sha256$%d$%s$%s", iterations, salt, base64.StdEncoding.EncodeToString(key))
}

// writer separates objects. Flush returns the first error of a bufio.Writer.
type writer struct {
	w     *bufio.Writer
	lines bool
	any   bool
}

func (d *writer) open() {
	if !d.lines {
		_, _ = d.w.WriteString("[")
	}
}

func (d *writer) object(format string, args ...any) {
	if d.any && !d.lines {
		_, _ = d.w.WriteString(",")
	}
	d.any = true
	_, _ = d.w.WriteString("\n")
	_, _ = fmt.Fprintf(d.w, format, args...)
}

func (d *writer) close() error {
	if !d.lines {
		_, _ = d.w.WriteString("\n]")
	}
	_, _ = d.w.WriteString("\n")
	return d.w.Flush() //nolint:wrapcheck // the caller's own writer
}
