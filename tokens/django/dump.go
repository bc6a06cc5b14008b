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

// Labels of the models, as dumpdata writes them.
const (
	modelApplication = "core.application"
	modelDomain      = "core.applicationdomain"
)

// Dump is the applications of a dump.
type Dump struct {
	// Applications are in the order of the file.
	Applications []Application
	// Records counts the records of the file, DomainRecords those of allowed domains.
	//
	// If a dump has no domain record at all, core.applicationdomain may have been left out.
	// Every application then seems to be allowed any domain, so ask before you import it.
	Records, DomainRecords int
	// Ignored counts the records of other models by label.
	Ignored map[string]int
	// Problems are in the order of the file.
	Problems []Problem
}

// Application is an application of Meet. Its texts are safe to show and to compare; see
// [ReadDump].
type Application struct {
	// Record is its position in the file, from 1.
	Record int
	// PK is the primary key, a UUID.
	PK string
	// ClientID has 1 to 100 visible characters.
	ClientID string
	// Name has up to 255 characters.
	Name string
	// SecretHash is for [Verify]; empty if the dump has no usable hash. Never show it.
	SecretHash string `json:"-"`
	// Active is false for a disabled application, and if the dump does not say.
	Active bool
	// Scopes have no duplicates and are in the order of the file.
	Scopes []string
	// Domains are its mail domains, in lower case, sorted and without duplicates.
	Domains []string
	// AnyDomain means that the dump has no domain for it, which at Meet allows every domain.
	// It is false if its domains cannot be read; then it has none.
	AnyDomain bool
	// Created and Updated are zero if the dump does not say.
	Created, Updated time.Time
}

// String omits the hash.
func (a Application) String() string { return a.ClientID + " (" + a.PK + ")" }

// GoString is String.
func (a Application) GoString() string { return a.String() }

// Problem is something in a dump that was changed or left out. It never contains a secret or a
// hash.
type Problem struct {
	// Record is the position in the file, from 1.
	Record int
	// Model is core.application or core.applicationdomain; empty if it cannot be read.
	Model string
	// PK is the primary key; empty if it cannot be read.
	PK string
	// Field is the name of the field; empty for the whole record.
	Field string
	// Reason is a sentence for operators.
	Reason string
	// Skipped means that the whole record was left out.
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

// ReadDump reads core.application and core.applicationdomain from the output of manage.py
// dumpdata, in the formats json (also several files concatenated) and jsonl. The models may
// come in any order. Other models are counted; unknown fields are ignored.
//
// An invalid record is a [Problem]. The record, or its invalid part, is left out, but never so
// that more is allowed than at Meet. Of two applications with the same primary key or client
// id, the first one counts. An application without a usable hash has an empty SecretHash.
//
// It is an error if the file cannot be read, is not JSON, has records but no serialized
// object, ends too early ([io.ErrUnexpectedEOF]), or has a record of more than 1 MiB. Memory
// grows with the applications, domains and problems, not with the size of the file; the
// caller bounds the reader.
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

// dumpReader collects a dump. Domains are assigned once all applications are known.
type dumpReader struct {
	dump       Dump
	byPK       map[string]int // folded primary key to index in Applications
	byClientID map[string]int
	domains    []domainRecord
	// unclear means that an invalid record may have restricted an unknown application.
	unclear    bool
	serialized bool // some record was a serialized object
}

type domainRecord struct {
	problem     Problem // with Record, Model and PK
	application string  // its primary key
	domain      string  // empty if it is invalid
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
	application, ok := readKey(f["application"])
	if !ok {
		d.unclear = true
		d.skip(at, "application", "is missing or not a key; no application here counts as free of domains")
		return
	}
	domain, ok := f.domain()
	if !ok {
		d.skip(at, "domain", "is missing or not a domain name; its application stays confined")
	}
	d.domains = append(d.domains, domainRecord{problem: at, application: application, domain: domain})
}

// finish assigns the domains to the applications.
func (d *dumpReader) finish() *Dump {
	apps := d.dump.Applications
	confined := make([]bool, len(apps))
	for _, r := range d.domains {
		i, found := d.byPK[foldKey(r.application)]
		if !found {
			d.skip(r.problem, "application", "is not in the dump, or was skipped")
			continue
		}
		confined[i] = true
		if r.domain != "" {
			apps[i].Domains = append(apps[i].Domains, r.domain)
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

func (d *dumpReader) report(at Problem, field, reason string) {
	at.Field, at.Reason = field, reason
	d.dump.Problems = append(d.dump.Problems, at)
}

func (d *dumpReader) skip(at Problem, field, reason string) {
	at.Skipped = true
	d.report(at, field, reason)
}
