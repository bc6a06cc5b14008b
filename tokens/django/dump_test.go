// SPDX-License-Identifier: MIT

package django_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/django"
	"github.com/meet-gateway/meet-gateway/tokens/django/djangotest"
)

var hash = djangotest.Hash("s3cret", "salt", 1)

// pk returns the primary key of application n.
func pk(n int) string { return djangotest.PK(n) }

// application returns the record of application n. Fields override or extend valid ones.
func application(n int, fields ...string) string {
	all := map[string]string{
		"name": `"Calendar"`, "is_active": "true", "client_id": fmt.Sprintf("%q", fmt.Sprintf("client%d", n)),
		"client_secret": fmt.Sprintf("%q", hash), "scopes": `"[]"`,
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		all[name] = value
	}
	var pairs []string
	for name, value := range all {
		if value != "" {
			pairs = append(pairs, fmt.Sprintf("%q: %s", name, value))
		}
	}
	return fmt.Sprintf(`{"model": "core.application", "pk": %q, "fields": {%s}}`, pk(n), strings.Join(pairs, ", "))
}

func domain(application, domain string) string {
	return fmt.Sprintf(`{"model": "core.applicationdomain", "pk": "d", "fields": {"application": %s, "domain": %s}}`, application, domain)
}

func quoted(s string) string { return `"` + s + `"` }

func array(records ...string) string { return "[" + strings.Join(records, ",\n") + "]" }

func read(t *testing.T, file string) *django.Dump {
	t.Helper()
	d, err := django.ReadDump(strings.NewReader(file))
	require.NoError(t, err)
	return d
}

// problems returns the lines that an operator sees.
func problems(d *django.Dump) []string {
	var lines []string
	for _, p := range d.Problems {
		lines = append(lines, p.String())
	}
	return lines
}

// The file was written by the serializer of Django (testdata/make_vectors.py).
func TestReadDump_DjangoFile(t *testing.T) {
	f, err := os.Open("testdata/dumpdata.json")
	require.NoError(t, err)
	defer f.Close()
	d, err := django.ReadDump(f)
	require.NoError(t, err)
	require.Empty(t, d.Problems)
	require.Empty(t, d.Ignored)
	require.Equal(t, 6, d.Records)
	require.Equal(t, 3, d.DomainRecords)

	day := func(n int) time.Time { return time.Date(2026, 3, 11+n, 14, 39, 0, 123e6, time.UTC) }
	hour := func(n int) time.Time { return time.Date(2026, 3, 11+n, 15, 39, 0, 0, time.UTC) }
	want := []django.Application{
		{
			Record: 1, PK: "00000000-0000-4000-8000-000000000000", ClientID: "client0" + strings.Repeat("x", 33),
			Name: "Platform of the Académie", Active: true, Scopes: []string{"rooms:create", "rooms:list", "rooms:retrieve"},
			Domains: []string{"academie.example", "school.example"}, Created: day(0), Updated: hour(0),
		},
		{
			Record: 2, PK: "00000000-0000-4000-8000-000000000001", ClientID: "client1" + strings.Repeat("x", 33),
			Name: "Calendar", Active: true, Scopes: []string{"rooms:create"}, AnyDomain: true, Created: day(1), Updated: hour(1),
		},
		{
			Record: 3, PK: "00000000-0000-4000-8000-000000000002", ClientID: "client2" + strings.Repeat("x", 33),
			Name: "Retired", Domains: []string{"old.example"}, Created: day(2), Updated: hour(2),
		},
	}
	for i := range d.Applications {
		ok, err := django.Verify(d.Applications[i].SecretHash, fmt.Sprintf("secret-%d", i))
		require.NoError(t, err)
		require.True(t, ok)
		d.Applications[i].SecretHash = ""
	}
	require.Empty(t, cmp.Diff(want, d.Applications))
}

func TestReadDump_Forms(t *testing.T) {
	app, dom := application(1), domain(quoted(pk(1)), `"a.example"`)
	for name, file := range map[string]string{
		"array":                  array(app, dom),
		"domain first":           array(dom, app),
		"lines":                  app + "\n" + dom + "\n",
		"lines without end":      dom + "\n" + app,
		"two arrays":             array(app) + "\n" + array(dom) + "\n",
		"empty array between":    array(app) + "[]" + array(dom),
		"byte order mark":        "\ufeff" + array(app, dom),
		"space around":           "\r\n\t " + array(app, dom) + "\n\n",
		"capitals in the model":  array(strings.Replace(app, "core.application", "core.Application", 1), dom),
		"primary key in capital": array(application(1), domain(quoted(strings.ToUpper(pk(1))), `"a.example"`)),
		"primary key undashed":   array(application(1), domain(quoted(strings.ReplaceAll(pk(1), "-", "")), `"a.example"`)),
		"repeated domain":        array(app, dom, domain(quoted(pk(1)), `" A.Example "`)),
	} {
		t.Run(name, func(t *testing.T) {
			d := read(t, file)
			require.Empty(t, problems(d))
			require.Len(t, d.Applications, 1)
			require.Equal(t, "client1", d.Applications[0].ClientID)
			require.Equal(t, []string{"a.example"}, d.Applications[0].Domains)
			require.False(t, d.Applications[0].AnyDomain)
		})
	}
	t.Run("byte by byte", func(t *testing.T) {
		d, err := django.ReadDump(iotest.OneByteReader(strings.NewReader(array(app, dom))))
		require.NoError(t, err)
		require.Len(t, d.Applications, 1)
	})
}

func TestReadDump_IgnoresOtherModels(t *testing.T) {
	d := read(t, array(
		`{"model": "core.user", "pk": 1, "fields": {"email": "a@b.example"}}`,
		`{"model": "sessions.session", "pk": "x"}`,
		application(1, `future=["x"]`), `{"model": "core.User", "pk": 2, "fields": 7}`,
	))
	require.Equal(t, map[string]int{"core.user": 2, "sessions.session": 1}, d.Ignored)
	require.Len(t, d.Applications, 1)
	require.Equal(t, 3, d.Applications[0].Record)
	require.Empty(t, problems(d))
	require.Zero(t, d.DomainRecords)
}

func TestReadDump_Fields(t *testing.T) {
	at := "record 1 (core.application " + pk(1) + "): "
	good := func() django.Application {
		return django.Application{
			Record: 1, PK: pk(1), ClientID: "client1", Name: "Calendar",
			SecretHash: hash, Active: true, AnyDomain: true,
		}
	}
	scopes := func(s ...string) func(*django.Application) {
		return func(a *django.Application) { a.Scopes = s }
	}
	created := func(y, m, d, h int) func(*django.Application) {
		return func(a *django.Application) { a.Created = time.Date(y, time.Month(m), d, h, 0, 0, 0, time.UTC) }
	}
	noSecret := func(a *django.Application) { a.SecretHash = "" }
	inactive := func(a *django.Application) { a.Active = false }
	noName := func(a *django.Application) { a.Name = "" }
	const (
		badScopes = "scopes: is missing or not a list of texts; taken as none"
		badScope  = "scopes: holds something that is not a scope; left out"
		badActive = "is_active: is missing or neither true nor false; taken as false"
		badName   = "name: is missing or longer than 255 characters"
		noDate    = "created_at: is not a date and time"
	)
	for field, tc := range map[string]struct {
		want    func(*django.Application)
		problem string
	}{
		`scopes=["rooms:list", "rooms:list", "a"]`: {scopes("rooms:list", "a"), ""},
		`scopes=["Rooms:List", "rooms:list", "a"]`: {scopes("rooms:list", "a"), ""},
		`scopes="[\"rooms:list\", \"a\"]"`:         {scopes("rooms:list", "a"), ""},
		`scopes=" [\"a\"] "`:                       {scopes("a"), ""},
		`scopes="{rooms:list,a}"`:                  {nil, badScopes},
		`scopes=[]`:                                {nil, ""},
		`scopes=`:                                  {nil, badScopes},
		`scopes=null`:                              {nil, badScopes},
		`scopes=""`:                                {nil, badScopes},
		`scopes="rooms:list"`:                      {nil, badScopes},
		`scopes="null"`:                            {nil, badScopes},
		`scopes=["a", null]`:                       {nil, badScopes},
		`scopes=["a", 1]`:                          {nil, badScopes},
		`scopes={"a": true}`:                       {nil, badScopes},
		`scopes=["a", "b c"]`:                      {scopes("a"), badScope},
		`scopes=["a", ""]`:                         {scopes("a"), badScope},
		`is_active=false`:                          {inactive, ""},
		`is_active=null`:                           {inactive, badActive},
		`is_active="true"`:                         {inactive, badActive},
		`is_active=1`:                              {inactive, badActive},

		`name=`:  {noName, badName},
		`name=7`: {noName, badName},
		`name="` + strings.Repeat("é", 256) + `"`: {noName, badName},
		`name="Calen\u001b\u202edar"`:             {nil, "name: had characters that do not print"},
		`name=" Calendar\u00a0"`:                  {nil, ""},

		`created_at="2026-01-02T04:00:00+01:00"`: {created(2026, 1, 2, 3), ""},
		`created_at="2026-01-02T03:00:00"`:       {created(2026, 1, 2, 3), ""},
		`created_at=null`:                        {nil, ""},
		`created_at="yesterday"`:                 {nil, noDate},
		`created_at=1767322800`:                  {nil, noDate},

		`client_secret=`:                                      {noSecret, "client_secret: is missing"},
		`client_secret=""`:                                    {noSecret, "client_secret: is missing"},
		`client_secret=7`:                                     {noSecret, "client_secret: is missing"},
		`client_secret="!unusable"`:                           {noSecret, "client_secret: is an unusable password"},
		`client_secret="in-the-clear"`:                        {noSecret, "client_secret: is not a hash; a secret in clear is known to everyone who has read this file"},
		`client_secret="in$the$clear"`:                        {noSecret, "client_secret: is not a hash; a secret in clear is known to everyone who has read this file"},
		`client_secret="md5$a$b"`:                             {noSecret, "client_secret: unsupported password hash: md5"},
		`client_secret="pbkdf2_sha256$99999999$a$b"`:          {noSecret, "client_secret: pbkdf2_sha256: password hash is too costly to check: more than 10000000 iterations"},
		`client_secret="pbkdf2_sha256$in-the-clear$a$b"`:      {noSecret, "client_secret: pbkdf2_sha256: malformed password hash: iterations are not a positive number"},
		`client_secret="bcrypt_sha256$$2b$12$in-the-clear"`:   {noSecret, "client_secret: bcrypt_sha256: malformed password hash: want $2b$, a cost of two digits and 53 characters"},
		`client_secret="argon2$argon2id$v=19$in-the-clear$$"`: {noSecret, "client_secret: argon2: malformed password hash: want the parameters m, t and p"},

		`Client_Secret="another name altogether, and ignored"`: {nil, ""},
	} {
		t.Run(field, func(t *testing.T) {
			want := good()
			if tc.want != nil {
				tc.want(&want)
			}
			d := read(t, array(application(1, field)))
			require.Empty(t, cmp.Diff([]django.Application{want}, d.Applications))
			if tc.problem == "" {
				require.Empty(t, problems(d))
				return
			}
			require.Equal(t, []string{at + tc.problem}, problems(d))
			require.False(t, d.Problems[0].Skipped)
		})
	}
}

func TestReadDump_OlderMeet(t *testing.T) {
	d := read(t, array(application(1, "is_active=", "active=true"), application(2, "is_active=", "active=false"),
		application(3, "is_active="), application(4, "is_active=false", "active=true")))
	var active []bool
	for _, a := range d.Applications {
		active = append(active, a.Active)
	}
	require.Equal(t, []bool{true, false, false, false}, active)
	require.Len(t, d.Problems, 1)
}

func TestReadDump_SkipsInvalidRecords(t *testing.T) {
	good := application(1)
	for name, tc := range map[string]struct {
		record, problem string
	}{
		"no object":            {`"text"`, "record 2: not a serialized object with a model (skipped)"},
		"null":                 {`null`, "record 2: not a serialized object with a model (skipped)"},
		"array":                {`[1]`, "record 2: not a serialized object with a model (skipped)"},
		"no model":             {`{"pk": 1}`, "record 2: not a serialized object with a model (skipped)"},
		"model for a terminal": {`{"model": "core.\u001b[2J"}`, "record 2: not a serialized object with a model (skipped)"},
		"no fields":            {`{"model": "core.application", "pk": "p"}`, "record 2 (core.application p): has no fields (skipped)"},
		"fields null":          {`{"model": "core.application", "pk": "p", "fields": null}`, "record 2 (core.application p): has no fields (skipped)"},
		"fields of a domain":   {`{"model": "core.applicationdomain", "pk": "p", "fields": []}`, "record 2 (core.applicationdomain p): has no fields (skipped)"},
		"no pk":                {`{"model": "core.application", "fields": {"client_id": "x"}}`, "record 2 (core.application): pk: is missing or not a key (skipped)"},
		"pk for a terminal":    {`{"model": "core.application", "pk": "\u001b[2J", "fields": {}}`, "record 2 (core.application): pk: is missing or not a key (skipped)"},
		"pk too long":          {`{"model": "core.application", "pk": "` + strings.Repeat("p", 65) + `", "fields": {}}`, "record 2 (core.application): pk: is missing or not a key (skipped)"},
		"no client id":         {application(2, "client_id="), "record 2 (core.application " + pk(2) + "): client_id: is missing or not 1 to 100 visible characters (skipped)"},
		"client id null":       {application(2, "client_id=null"), "record 2 (core.application " + pk(2) + "): client_id: is missing or not 1 to 100 visible characters (skipped)"},
		"client id with space": {application(2, `client_id="a b"`), "record 2 (core.application " + pk(2) + "): client_id: is missing or not 1 to 100 visible characters (skipped)"},
		"client id too long":   {application(2, `client_id="`+strings.Repeat("a", 101)+`"`), "record 2 (core.application " + pk(2) + "): client_id: is missing or not 1 to 100 visible characters (skipped)"},
		"same client id":       {application(2, `client_id="client1"`), "record 2 (core.application " + pk(2) + "): client_id: is that of record 1 (skipped)"},
		"same pk":              {application(1, `client_id="other"`), "record 2 (core.application " + pk(1) + "): pk: is that of record 1 (skipped)"},
		"domain of another":    {domain(quoted(pk(7)), `"a.example"`), "record 2 (core.applicationdomain d): application: is not in the dump, or was skipped (skipped)"},
	} {
		t.Run(name, func(t *testing.T) {
			d := read(t, array(good, tc.record, application(9)))
			require.Equal(t, []string{tc.problem}, problems(d))
			require.True(t, d.Problems[0].Skipped)
			require.Len(t, d.Applications, 2)
			require.Equal(t, "client1", d.Applications[0].ClientID)
			require.Equal(t, "client9", d.Applications[1].ClientID)
			require.Equal(t, 3, d.Records)
		})
	}
}

// In Meet an application without domains may act for everyone. Invalid domains in a dump
// must not make a restricted application unrestricted.
func TestReadDump_NeverWidensAccess(t *testing.T) {
	t.Run("invalid domains", func(t *testing.T) {
		for _, bad := range []string{
			`""`, `null`, `7`, `"*"`, `".example.org"`, `"example.org."`, `"a..example"`, `"*.example.org"`, `"-a.example"`,
			`"a-.example"`, `"a_b.example"`, `"exam\u212aple.org"`, `"localhost"`, `"127.0.0.1"`, `"a b.example"`, `"a@b.example"`,
			quoted(strings.Repeat("a", 64) + ".example"), quoted(strings.Repeat("a.", 130) + "example"),
		} {
			d := read(t, array(application(1), application(2), domain(quoted(pk(1)), bad)))
			require.Len(t, d.Problems, 1, bad)
			require.Empty(t, d.Applications[0].Domains, bad)
			require.False(t, d.Applications[0].AnyDomain, bad)
			require.True(t, d.Applications[1].AnyDomain, "other applications are not affected")
		}
	})
	t.Run("domains without an application", func(t *testing.T) {
		for _, bad := range []string{
			domain(`null`, `"a.example"`), domain(`true`, `"a.example"`), domain(`[]`, `"a.example"`), domain(`["a", "b"]`, `"a.example"`),
			domain(`{"pk": 1}`, `"a.example"`), domain(`["nobody"]`, `"a.example"`), domain(`["`+pk(1)+`"]`, `"a.example"`),
			`{"model": "core.applicationdomain"}`, `{"model": 7}`, `7`,
		} {
			d := read(t, array(application(1), bad, application(2), domain(quoted(pk(2)), `"b.example"`)))
			require.Len(t, d.Problems, 1, bad)
			require.False(t, d.Applications[0].AnyDomain, bad)
			require.Empty(t, d.Applications[0].Domains, bad)
			require.Equal(t, []string{"b.example"}, d.Applications[1].Domains, bad)
		}
	})
}

func TestReadDump_RefusesInvalidFiles(t *testing.T) {
	broken := errors.New("disk on fire")
	big := `{"model": "core.user", "pk": 1, "fields": {"x": "` + strings.Repeat("s3cret", 200_000) + `"}}`
	for name, tc := range map[string]struct {
		file io.Reader
		want string
		is   error
	}{
		"nothing":              {strings.NewReader(""), "empty file", nil},
		"only space":           {strings.NewReader(" \n"), "empty file", nil},
		"text":                 {strings.NewReader("CommandError: Unknown model: s3cret"), "neither a JSON array nor JSON lines", nil},
		"no end":               {strings.NewReader("[" + application(1)), "record 2: unexpected EOF", io.ErrUnexpectedEOF},
		"no end after comma":   {strings.NewReader("[" + application(1) + ","), "record 2: unexpected EOF", io.ErrUnexpectedEOF},
		"only a bracket":       {strings.NewReader("["), "record 1: unexpected EOF", io.ErrUnexpectedEOF},
		"no end of a line":     {strings.NewReader(application(1) + "\n{\"model\": \"s3cret"), "record 2: unexpected EOF", io.ErrUnexpectedEOF},
		"broken":               {strings.NewReader(array(application(1), `{"model": s3cret}`)), "record 2: not JSON, after byte ", nil},
		"broken string":        {strings.NewReader("[{\"s3cret\n"), "record 1: not JSON, after byte 1", nil},
		"trailing comma":       {strings.NewReader("[" + application(1) + ",]"), "record 2: not JSON, after byte ", nil},
		"something after":      {strings.NewReader(array(application(1)) + "{}"), "record 2: something other than an array follows an array", nil},
		"text after":           {strings.NewReader(array(application(1)) + "s3cret"), "record 2: not JSON, after byte ", nil},
		"a large record":       {strings.NewReader(array(application(1), big)), "record 2: longer than 1048576 bytes", nil},
		"endless space":        {endless(' '), "longer than 1048576 bytes", nil},
		"endless string":       {io.MultiReader(strings.NewReader(`[{"model": "`), endless('a')), "record 1: longer than 1048576 bytes", nil},
		"endless brackets":     {endless('['), "record 1: not JSON, after byte ", nil},
		"endless empty arrays": {io.MultiReader(strings.NewReader(strings.Repeat("[]", 1<<20))), "record 1: longer than 1048576 bytes", nil},
		"a reader that fails":  {io.MultiReader(strings.NewReader("["+application(1)), iotest.ErrReader(broken)), "record 2: disk on fire", broken},
		"fails at once":        {iotest.ErrReader(broken), "read: disk on fire", broken},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := django.ReadDump(tc.file)
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "s3cret")
			require.Nil(t, d)
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
		})
	}
}

// endless is an infinite file of one repeated byte.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

func TestReadDump_LargeFile(t *testing.T) {
	filler := `{"model": "core.user", "pk": 1, "fields": {"x": "` + strings.Repeat("x", 700_000) + `"}}`
	d := read(t, array(filler, filler, application(1), filler))
	require.Equal(t, 4, d.Records)
	require.Len(t, d.Applications, 1)
}

func TestApplication_HidesHash(t *testing.T) {
	app := read(t, array(application(1))).Applications[0]
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(format, app), hash)
		require.NotContains(t, fmt.Sprintf(format, &app), hash)
		require.NotContains(t, fmt.Sprintf(format, []django.Application{app}), hash)
	}
	b, err := json.Marshal(app)
	require.NoError(t, err)
	require.NotContains(t, string(b), "pbkdf2")
}

func TestReadDump_ManyApplications(t *testing.T) {
	const n = 10_000
	for _, lines := range []bool{false, true} {
		var file bytes.Buffer
		require.NoError(t, djangotest.WriteDump(&file, djangotest.Options{Applications: n, Domains: 2, Lines: lines}))
		d, err := django.ReadDump(&file)
		require.NoError(t, err)
		require.Empty(t, problems(d))
		require.Len(t, d.Applications, n)
		require.Equal(t, 2*n, d.DomainRecords)
		for i, a := range d.Applications {
			require.Equal(t, djangotest.PK(i), a.PK)
			require.Equal(t, djangotest.ClientID(i), a.ClientID)
			require.Equal(t, []string{djangotest.Domain(i, 0), djangotest.Domain(i, 1)}, a.Domains)
			require.Equal(t, []string{"rooms:list", "rooms:create"}, a.Scopes)
		}
		ok, err := django.Verify(d.Applications[n-1].SecretHash, djangotest.Secret(n-1))
		require.NoError(t, err)
		require.True(t, ok)
	}
}

func FuzzReadDump(f *testing.F) {
	b, err := os.ReadFile("testdata/dumpdata.json")
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(array(application(1), domain(`["client1"]`, `"a.example"`))))
	f.Add([]byte(application(1, `scopes="{a,\"b\"}"`) + "\n" + domain(`null`, `"*"`)))
	f.Fuzz(func(t *testing.T, file []byte) {
		d, err := django.ReadDump(bytes.NewReader(file))
		if err != nil {
			require.Nil(t, d)
			return
		}
		pks, ids := map[string]bool{}, map[string]bool{}
		for _, a := range d.Applications {
			require.NotEmpty(t, a.PK)
			require.NotEmpty(t, a.ClientID)
			require.False(t, pks[a.PK] || ids[a.ClientID], "twice")
			pks[a.PK], ids[a.ClientID] = true, true
			require.False(t, a.AnyDomain && len(a.Domains) > 0)
			for _, domain := range a.Domains {
				require.NotContains(t, domain, "*")
				require.NotEqual(t, byte('.'), domain[0])
			}
			if a.SecretHash != "" {
				_, err := django.Identify(a.SecretHash)
				require.NoError(t, err)
			}
		}
		for i, p := range d.Problems {
			require.Positive(t, p.Record)
			require.LessOrEqual(t, p.Record, d.Records)
			require.True(t, i == 0 || d.Problems[i-1].Record <= p.Record, "out of order")
			for _, c := range []byte(p.String()) {
				require.True(t, c >= ' ' && c <= '~', "not fit for a terminal: %q", p.String())
			}
		}
	})
}

func BenchmarkReadDump(b *testing.B) {
	const n = 10_000
	var file bytes.Buffer
	require.NoError(b, djangotest.WriteDump(&file, djangotest.Options{Applications: n, Domains: 2}))
	b.SetBytes(int64(file.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := django.ReadDump(bytes.NewReader(file.Bytes())); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/application")
}
