// SPDX-License-Identifier: MIT

package audit

import (
	"cmp"
	"crypto/hmac"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"
)

// Kinds of findings.
const (
	Changed = "changed" // a line was changed
	Removed = "removed" // lines are missing
	Swapped = "swapped" // a line is out of place or repeated
	Cut     = "cut"     // the end or the beginning of a file is missing
	Forged  = "forged"  // a head is of another gateway
)

// Finding is a fault in a trail.
type Finding struct {
	Kind string `json:"kind"`
	File string `json:"file,omitempty"`
	// Line is the line in the file, from 1; 0 if the finding is about a missing line.
	Line int    `json:"line,omitempty"`
	Seq  uint64 `json:"seq,omitempty"`
	Text string `json:"text"`
}

// String returns one sentence, starting with the place.
func (f Finding) String() string {
	at := ""
	if f.File != "" {
		at = f.File + ": "
		if f.Line > 0 {
			at = fmt.Sprintf("%s:%d: ", f.File, f.Line)
		}
	}
	return at + f.Kind + ": " + f.Text
}

// Chain is a chain of lines in the files.
type Chain struct {
	ID string `json:"chain"`
	// First and Last are the numbers of its first and last line.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	// Head is the hash of the last line.
	Head string `json:"head"`
	// Closed reports that the last line closes the chain.
	Closed bool `json:"closed"`
	// Signed is the number of the last line with a verified head.
	Signed uint64 `json:"signed,omitempty"`
}

// Report is the result of [Verify].
type Report struct {
	Lines    int       `json:"lines"`
	Chains   []Chain   `json:"chains"`
	Findings []Finding `json:"findings"`
	// Notes are remarks for an auditor that are no faults.
	Notes []string `json:"notes"`
}

// OK reports whether there are no findings.
func (r *Report) OK() bool { return len(r.Findings) == 0 }

// VerifyOptions are the options of [Verify].
type VerifyOptions struct {
	// Head is the hash of a line that must be present, noted elsewhere; "" for none.
	Head string
	// Keys check the keyed heads. Without them, a recomputed chain is not detected.
	Keys []*Key
}

// Verify checks the chains in some files, in any order. An error means that a file
// could not be read.
func Verify(files []string, o VerifyOptions) (*Report, error) {
	v := &verifier{o: o, report: &Report{Findings: []Finding{}, Notes: []string{}, Chains: []Chain{}}, chains: map[string][]entry{}}
	for _, file := range files {
		if err := v.read(file); err != nil {
			return nil, err
		}
	}
	slices.Sort(v.order)
	for _, id := range v.order {
		v.checkChain(id)
	}
	v.checkHead()
	return v.report, nil
}

type verifier struct {
	o      VerifyOptions
	report *Report
	chains map[string][]entry // in the order of the files
	order  []string
	found  bool // the required head
}

func (v *verifier) find(kind string, e entry, text string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{Kind: kind, File: e.file, Line: e.line, Seq: e.Seq, Text: fmt.Sprintf(text, args...)})
}

func (v *verifier) note(text string, args ...any) {
	v.report.Notes = append(v.report.Notes, fmt.Sprintf(text, args...))
}

// read reads the lines of a file and reports the unreadable ones.
func (v *verifier) read(file string) error {
	var broken []entry // since the last readable line
	err := readFile(file, func(e entry) error {
		v.report.Lines++
		if e.broken != nil {
			broken = append(broken, e)
			return nil
		}
		v.blame(broken, &e)
		broken = nil
		if _, known := v.chains[e.Chain]; !known {
			v.order = append(v.order, e.Chain)
		}
		v.chains[e.Chain] = append(v.chains[e.Chain], e)
		if v.o.Head != "" && e.intact && e.Hash == v.o.Head {
			v.found = true
		}
		return nil
	})
	v.blame(broken, nil)
	return err
}

// blame classifies unreadable lines: torn by a failure that the next line records, cut,
// or changed.
func (v *verifier) blame(broken []entry, next *entry) {
	for i, e := range broken {
		last := i == len(broken)-1
		switch {
		case last && next != nil && next.Torn:
			v.note("%s:%d: the line is not whole; the gateway found it so when it was started again: the machine or the disk had failed", e.file, e.line)
		case e.torn:
			v.find(Cut, e, "the file ends in the middle of a line")
		default:
			v.find(Changed, e, "this is no line of an audit trail")
		}
	}
}

// checkChain checks the lines of one chain against each other.
func (v *verifier) checkChain(id string) {
	lines := v.chains[id]
	v.checkOrder(lines)
	lines = slices.Clone(lines)
	slices.SortStableFunc(lines, func(a, b entry) int { return cmp.Compare(a.Seq, b.Seq) })
	lines = v.dropRepeated(lines)
	c := Chain{ID: id, First: lines[0].Seq, Last: lines[len(lines)-1].Seq}
	for i, e := range lines {
		if !e.intact {
			v.find(Changed, e, "line %d of chain %s is not as it was written", e.Seq, id)
		}
		if i > 0 {
			v.checkLink(lines[i-1], e)
		}
		if v.checkMAC(e) {
			c.Signed = e.Seq
		}
		if e.Type == opened && e.Unclean {
			v.note("%s:%d: the gateway was killed after line %d; a kill loses no line that was written", e.file, e.line, e.Seq-1)
		}
		if e.Type == gap {
			v.note("%s:%d: %s could not be written and %s in no file", e.file, e.line, english.Plural(int(e.Lost), "event", ""), english.PluralWord(int(e.Lost), "is", "are"))
		}
	}
	v.checkBeginning(lines)
	last := lines[len(lines)-1]
	c.Head, c.Closed = last.Hash, last.Type == closed
	if !c.Closed {
		v.note("chain %s ends at line %d without being closed: the gateway runs, was killed, or lines after it were cut; compare with `meet audit head`", id, c.Last)
	}
	if len(v.o.Keys) > 0 && c.Signed == 0 {
		v.find(Forged, last, "no line of chain %s has a head of this gateway", id)
	}
	v.report.Chains = append(v.report.Chains, c)
}

// checkOrder finds lines that follow later ones in the same file.
func (v *verifier) checkOrder(lines []entry) {
	for i := 1; i < len(lines); i++ {
		if was := lines[i-1]; was.file == lines[i].file && lines[i].Seq < was.Seq {
			v.find(Swapped, lines[i], "line %d stands behind line %d", lines[i].Seq, was.Seq)
		}
	}
}

// dropRepeated reports repeated lines and removes them.
func (v *verifier) dropRepeated(lines []entry) []entry {
	kept := lines[:1]
	for _, e := range lines[1:] {
		was := kept[len(kept)-1]
		if e.Seq != was.Seq {
			kept = append(kept, e)
			continue
		}
		if string(e.raw) == string(was.raw) {
			v.find(Swapped, e, "line %d is a duplicate of %s:%d", e.Seq, was.file, was.line)
		} else {
			v.find(Changed, e, "line %d is a second one with this number, and differs from %s:%d", e.Seq, was.file, was.line)
		}
	}
	return kept
}

// checkLink checks that a line follows the one before.
func (v *verifier) checkLink(was, e entry) {
	switch {
	case e.Seq == was.Seq+2:
		v.find(Removed, e, "line %d is missing, between %s:%d and %s:%d", was.Seq+1, was.file, was.line, e.file, e.line)
	case e.Seq > was.Seq+1:
		v.find(Removed, e, "lines %d to %d are missing, between %s:%d and %s:%d", was.Seq+1, e.Seq-1, was.file, was.line, e.file, e.line)
	case was.intact && e.intact && e.Prev != was.Hash:
		v.find(Changed, was, "line %d was written anew: the line after it names another hash", was.Seq)
	}
}

// checkBeginning checks whether the first lines of a file are missing.
func (v *verifier) checkBeginning(lines []entry) {
	first := lines[0]
	for _, e := range lines {
		if e.Type == rotated && e.file == first.file && e.First > 0 && e.First < first.Seq {
			v.find(Cut, first, "the file began with line %d, and begins with line %d now", e.First, first.Seq)
			return
		}
	}
	switch {
	case first.Seq == 1 && first.Prev != noHash:
		v.find(Changed, first, "the first line of a chain follows no other")
	case first.Seq > 1:
		v.note("%s:%d: chain %s begins at line %d; earlier lines are in older files", first.file, first.line, first.Chain, first.Seq)
	}
}

// checkMAC reports whether a line has a valid head.
func (v *verifier) checkMAC(e entry) bool {
	isHead := strings.HasPrefix(e.Type, "audit.")
	if len(v.o.Keys) == 0 || !isHead {
		return false
	}
	for _, k := range v.o.Keys {
		if k.ID != e.Key {
			continue
		}
		if hmac.Equal([]byte(e.MAC), []byte(k.head(e.Chain, e.Seq, e.Prev))) {
			return true
		}
		v.find(Forged, e, "the head of line %d was not made by this gateway", e.Seq)
		return false
	}
	v.note("%s:%d: the head is under the key %q, of a secret that was not given", e.file, e.line, e.Key)
	return false
}

// checkHead looks for the required line.
func (v *verifier) checkHead() {
	if v.o.Head == "" || v.found {
		return
	}
	ends := make([]string, 0, len(v.report.Chains))
	for _, c := range v.report.Chains {
		ends = append(ends, fmt.Sprintf("chain %s ends at line %d", c.ID, c.Last))
	}
	v.report.Findings = append(v.report.Findings, Finding{
		Kind: Cut, Text: fmt.Sprintf("no line has the hash %s: it was cut off (%s)", v.o.Head, strings.Join(ends, ", ")),
	})
}
