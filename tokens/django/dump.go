// SPDX-License-Identifier: MIT

package django

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Labels of the models that are read, as dumpdata writes them.
const (
	modelApplication = "core.application"
	modelDomain      = "core.applicationdomain"
)

// Dump is what a dump says about Meet's applications.
type Dump struct {
	// Applications are in the order of the file.
	Applications []Application
	// Records counts everything in the file, DomainRecords the allowed domains.
	//
	// A dump of applications with no domain record at all may be one from which
	// core.applicationdomain was left out: every application then looks as if
	// it might act for everybody. Ask before believing it.
	Records, DomainRecords int
	// Ignored counts the records of other models by their label.
	Ignored map[string]int
	// Problems are in the order of the file.
	Problems []Problem
}

// Application is an application of Meet. Its texts have been checked, so that
// they can be shown and compared; see [ReadDump].
type Application struct {
	// Record is its place in the file, from 1.
	Record int
	// PK is its primary key, a UUID.
	PK string
	// ClientID is what its integrator presents: 1 to 100 visible characters.
	ClientID string
	// Name is for people; it may be empty and have up to 255 characters.
	Name string
	// SecretHash is what [Verify] takes, or empty if the dump has nothing of
	// the kind. Never show it.
	SecretHash string `json:"-"`
	// Active is false for a disabled application, and when the dump does not tell.
	Active bool
	// Scopes are without repeats, in the order of the file.
	Scopes []string
	// Domains are the mail domains it may act for: in lower case, sorted,
	// without repeats.
	Domains []string
	// AnyDomain tells that the dump has no domain for it, which at Meet means
	// every domain. It is false when its domains cannot be read: it then may
	// act for nobody.
	AnyDomain bool
	// Created and Updated are zero if the dump does not tell.
	Created, Updated time.Time
}

// String leaves the hash out.
func (a Application) String() string { return a.ClientID + " (" + a.PK + ")" }

// GoString is String.
func (a Application) GoString() string { return a.String() }

// Problem is something in a dump that was not taken as it is. It never holds a
// secret or a hash.
type Problem struct {
	// Record is the place in the file, from 1.
	Record int
	// Model is core.application, core.applicationdomain or, when not even that
	// can be read, empty.
	Model string
	// PK is the primary key, or empty when it cannot be read.
	PK string
	// Field is the field it is about, or empty when it is about the record.
	Field string
	// Reason is a sentence for operators.
	Reason string
	// Skipped tells that the whole record was left out.
	Skipped bool
}

// String is one line: record 3 (core.application 0b5e…): client_secret: reason.
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "record %d", p.Record)
	if what := strings.TrimSpace(p.Model + " " + p.PK); what != "" {
		fmt.Fprintf(&b, " (%s)", what)
	}
	if p.Field != "" {
		b.WriteString(": " + p.Field)
	}
	b.WriteString(": " + p.Reason)
	if p.Skipped {
		b.WriteString(" (skipped)")
	}
	return b.String()
}

// ReadDump reads what manage.py dumpdata writes of core.application and
// core.applicationdomain, in its formats json (also several of them in a row)
// and jsonl. Other models are counted and otherwise ignored, as are fields it
// does not know. The models may come in any order.
//
// What is wrong with one record is a [Problem] and stops nothing: the record,
// or the part of it that cannot be used, is left out, and never in a way that
// allows more than Meet did. Of two applications with one primary key or one
// client id the first counts. An application without a usable hash is kept,
// with an empty SecretHash.
//
// The error means that nothing can be taken: the file cannot be read, is not
// JSON, has records and none of them is a serialized object, ends too early (it wraps [io.ErrUnexpectedEOF]) or has a record of
// more than 1 MiB. Memory is in proportion to the applications, domains and
// problems of the file, not to its size; a caller bounds the reader.
func ReadDump(r io.Reader) (*Dump, error) {
	records, err := newRecordReader(r)
	if err != nil {
		return nil, err
	}
	d := newDumpReader()
	for {
		raw, err := records.next()
		if err == io.EOF { //nolint:errorlint // next returns it bare at the end, and wrapped nowhere
			if d.dump.Records > 0 && !d.serialized {
				return nil, errors.New("nothing in it is a serialized object with a model")
			}
			return d.finish(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", d.dump.Records+1, err)
		}
		d.add(raw)
	}
}

// dumpReader collects a dump. Domains wait until all applications are known.
type dumpReader struct {
	dump       Dump
	byPK       map[string]int // folded primary key to index in Applications
	byClientID map[string]int
	domains    []domainRecord
	// unclear tells that some record may have confined an application of which
	// it cannot be told which one.
	unclear bool
	// serialized tells that some record looked like one.
	serialized bool
}

type domainRecord struct {
	problem     Problem // with the record, the model and the key filled in
	application reference
	domain      string // empty if it cannot be used
}

func newDumpReader() *dumpReader {
	return &dumpReader{
		dump: Dump{Ignored: map[string]int{}},
		byPK: map[string]int{}, byClientID: map[string]int{},
	}
}

func (d *dumpReader) add(raw json.RawMessage) {
	d.dump.Records++
	at := Problem{Record: d.dump.Records}
	var record struct {
		Model  string
		PK     json.RawMessage
		Fields json.RawMessage
	}
	if err := json.Unmarshal(raw, &record); err != nil || !isLabel(record.Model) {
		d.unclear = true
		d.skip(at, "", "not a serialized object with a model")
		return
	}
	d.serialized = true
	switch at.Model = strings.ToLower(record.Model); at.Model {
	case modelApplication, modelDomain:
	default:
		d.dump.Ignored[at.Model]++
		return
	}
	at.PK, _ = readKey(record.PK)
	var f fields
	if err := json.Unmarshal(record.Fields, &f); err != nil || f == nil {
		d.unclear = d.unclear || at.Model == modelDomain
		d.skip(at, "", "has no fields")
		return
	}
	if at.Model == modelDomain {
		d.addDomain(at, f)
	} else {
		d.addApplication(at, f)
	}
}

func (d *dumpReader) addApplication(at Problem, f fields) {
	if at.PK == "" {
		d.skip(at, "pk", "is missing or not a key")
		return
	}
	id, ok := f.clientID()
	if !ok {
		d.skip(at, "client_id", "is missing or not 1 to 100 visible characters")
		return
	}
	if i, taken := d.byPK[foldKey(at.PK)]; taken {
		d.skip(at, "pk", fmt.Sprintf("is that of record %d", d.dump.Applications[i].Record))
		return
	}
	if i, taken := d.byClientID[id]; taken {
		d.skip(at, "client_id", fmt.Sprintf("is that of record %d", d.dump.Applications[i].Record))
		return
	}
	app := Application{Record: at.Record, PK: at.PK, ClientID: id}
	report := func(field, reason string) { d.report(at, field, reason) }
	app.Name = f.name(report)
	app.SecretHash = f.secretHash(report)
	app.Active = f.active(report)
	app.Scopes = f.scopes(report)
	app.Created = f.instant("created_at", report)
	app.Updated = f.instant("updated_at", report)

	d.byPK[foldKey(app.PK)] = len(d.dump.Applications)
	d.byClientID[app.ClientID] = len(d.dump.Applications)
	d.dump.Applications = append(d.dump.Applications, app)
}

func (d *dumpReader) addDomain(at Problem, f fields) {
	d.dump.DomainRecords++
	application, ok := readReference(f["application"])
	if !ok {
		d.unclear = true
		d.skip(at, "application", "is missing or not a reference; no application here counts as free of domains")
		return
	}
	domain, ok := f.domain()
	if !ok {
		d.skip(at, "domain", "is missing or not a domain name; its application stays confined")
	}
	d.domains = append(d.domains, domainRecord{problem: at, application: application, domain: domain})
}

// finish gives the applications their domains.
func (d *dumpReader) finish() *Dump {
	apps := d.dump.Applications
	confined := make([]bool, len(apps))
	for _, r := range d.domains {
		i, found := d.resolve(r.application)
		switch {
		case found:
			confined[i] = true
			if r.domain != "" {
				apps[i].Domains = append(apps[i].Domains, r.domain)
			}
		case r.application.natural:
			d.unclear = true
			d.skip(r.problem, "application", "is a natural key of no application here; no application here counts as free of domains")
		default:
			d.skip(r.problem, "application", "is not in the dump, or was skipped")
		}
	}
	for i := range apps {
		apps[i].AnyDomain = !confined[i] && !d.unclear
		slices.Sort(apps[i].Domains)
		apps[i].Domains = slices.Compact(apps[i].Domains)
	}
	slices.SortStableFunc(d.dump.Problems, func(a, b Problem) int { return cmp.Compare(a.Record, b.Record) })
	return &d.dump
}

// resolve finds the application of a domain: by primary key or, in a dump
// made with --natural-foreign, by what is unique about it.
func (d *dumpReader) resolve(r reference) (int, bool) {
	if r.natural {
		i, found := d.byClientID[r.key]
		return i, found
	}
	i, found := d.byPK[foldKey(r.key)]
	return i, found
}

func (d *dumpReader) report(at Problem, field, reason string) {
	at.Field, at.Reason = field, reason
	d.dump.Problems = append(d.dump.Problems, at)
}

func (d *dumpReader) skip(at Problem, field, reason string) {
	at.Skipped = true
	d.report(at, field, reason)
}
