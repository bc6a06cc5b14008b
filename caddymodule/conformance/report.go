// SPDX-License-Identifier: MIT

package conformance

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Group says what a difference means for a gateway in front of this Meet.
type Group struct {
	Name  string `json:"group"`
	Title string `json:"title"`
	Lines int    `json:"lines"`
}

// The groups, the gravest first.
const (
	groupFails     = "fails"
	groupOpens     = "opens"
	groupOtherwise = "otherwise"
	groupPaging    = "paging"
	groupFields    = "fields"
	groupCauses    = "causes"
	groupMore      = "more"
	groupEither    = "either"
	groupWords     = "words"
	groupGateway   = "gateway"
)

var groups = []Group{
	{Name: groupFails, Title: "The gateway would answer 502, 503 or 504"},
	{Name: groupOpens, Title: "Meet lets in what it refused: the gateway alone would stand between"},
	{Name: groupOtherwise, Title: "Callers would get another status"},
	{Name: groupPaging, Title: "Pages or links would be wrong"},
	{Name: groupFields, Title: "Callers would miss a field, or read another value"},
	{Name: groupCauses, Title: "Callers notice nothing: logs, metrics and the doctor would name another cause"},
	{Name: groupMore, Title: "Meet has more than it had: nothing breaks, and a route line may open it"},
	{Name: groupEither, Title: "The gateway has a way for either: nothing to do"},
	{Name: groupWords, Title: "Words only, or what the gateway does not read: nothing to do"},
	{Name: groupGateway, Title: "The gateway differs from what docs/compatibility.md says"},
}

func groupIndex(name string) int {
	return slices.IndexFunc(groups, func(g Group) bool { return g.Name == name })
}

// groupOf returns the group of the differences of a line. before is the outcome of the
// recorded answer, now that of the new one.
func groupOf(l *line, want *expected, before, now outcome, found []Difference) string {
	switch {
	case l.Either != "":
		return groupEither
	case l.New && now.status != before.status:
		return groupMore
	case want.Status >= http.StatusBadRequest && now.status < http.StatusMultipleChoices:
		return groupOpens
	case now.status >= http.StatusInternalServerError && before.status < http.StatusInternalServerError:
		return groupFails
	case now.status != before.status:
		return groupOtherwise
	case now.reason != before.reason, now.anew != before.anew:
		return groupCauses
	}
	gravest := groupWords
	for _, d := range found {
		if g := groupOfDifference(l, want, d); groupIndex(g) < groupIndex(gravest) {
			gravest = g
		}
	}
	return gravest
}

// groupOfDifference returns the group of a difference that does not change the outcome.
// Callers never see the texts of Meet's token endpoint.
func groupOfDifference(l *line, want *expected, d Difference) string {
	switch d.kind {
	case kindNotJSON:
		return groupCauses
	case kindPaging:
		return groupPaging
	default:
	}
	if l.About == "tokens" {
		return groupWords
	}
	success := want.Status < http.StatusBadRequest
	switch {
	case d.kind == kindShape || d.kind == kindValue || d.At == "Location":
		return groupFields
	case d.kind == kindExtra && success, d.At == "Allow":
		return groupMore
	}
	return groupWords
}

// Result is the outcome of one line.
type Result struct {
	Line        string       `json:"line"`
	About       string       `json:"about"`
	Situation   string       `json:"situation"`
	Asked       string       `json:"asked"`
	Group       string       `json:"group"`
	Differences []Difference `json:"differences"`
	// Before and Now are the outcomes of the recorded answer and of this one.
	Before string `json:"gateway_before,omitempty"`
	Now    string `json:"gateway_now,omitempty"`
	// Hint is the hint that the gateway would log for its operator.
	Hint string `json:"hint,omitempty"`

	took time.Duration
}

// LeftOut is a line that was skipped.
type LeftOut struct {
	Line   string `json:"line"`
	About  string `json:"about"`
	Reason string `json:"reason"`
}

// Report is the result of [Run].
type Report struct {
	Backend string    `json:"backend"`
	Gateway bool      `json:"gateway"`
	Write   bool      `json:"write"`
	Same    int       `json:"same"`
	Differ  []Result  `json:"differ"`
	Left    []LeftOut `json:"left_out"`
	// Made are the ids of the rooms that the run created. Meet cannot delete them yet.
	Made []string `json:"rooms_made"`

	same []Result
}

func (r *Report) add(result Result) {
	if len(result.Differences) > 0 {
		r.Differ = append(r.Differ, result)
		return
	}
	r.Same++
	r.same = append(r.same, result)
}

func (r *Report) leaveOut(l *line, reason string) {
	r.Left = append(r.Left, LeftOut{l.Line, l.About, reason})
}

// answered reports whether there was any answer yet.
func (r *Report) answered() bool { return r.Same+len(r.Differ) > 0 }

// Groups counts the differing lines of each group, the gravest first.
func (r *Report) Groups() []Group {
	var some []Group
	for _, g := range groups {
		for _, d := range r.Differ {
			if d.Group == g.Name {
				g.Lines++
			}
		}
		if g.Lines > 0 {
			some = append(some, g)
		}
	}
	return some
}

const junitName = "meet conformance"

// junit is the report format of build servers.
type junit struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
	Error   *junitFailure `xml:"error"`
	Skipped *junitSkipped `xml:"skipped"`
}

type junitFailure struct {
	Type    string `xml:"type,attr"`
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

type junitSkipped struct {
	Message string `xml:"message,attr"`
}

// JUnit writes the report in JUnit's format, with a suite for each subject and a case for
// each line.
func (r *Report) JUnit() ([]byte, error) {
	all := junit{Name: junitName}
	suite := func(about string) *junitSuite {
		i := slices.IndexFunc(all.Suites, func(s junitSuite) bool { return s.Name == about })
		if i < 0 {
			all.Suites, i = append(all.Suites, junitSuite{Name: about}), len(all.Suites)
		}
		all.Suites[i].Tests++
		all.Tests++
		return &all.Suites[i]
	}
	for _, result := range slices.Concat(r.same, r.Differ) {
		s := suite(result.About)
		c := junitCase{Class: "meet." + result.About, Name: result.Line, Time: strconv.FormatFloat(result.took.Seconds(), 'f', 3, 64)}
		if len(result.Differences) > 0 {
			c.Failure = &junitFailure{Type: result.Group, Message: groups[groupIndex(result.Group)].Title, Text: strings.Join(result.Sentences(), "\n")}
			s.Failures++
			all.Failures++
		}
		s.Cases = append(s.Cases, c)
	}
	for _, left := range r.Left {
		s := suite(left.About)
		s.Skipped++
		s.Cases = append(s.Cases, junitCase{Class: "meet." + left.About, Name: left.Line, Time: "0", Skipped: &junitSkipped{left.Reason}})
	}
	return all.write()
}

// JUnitFailed reports, in the same format, that the run itself failed.
func JUnitFailed(err error) ([]byte, error) {
	failed := junitCase{Class: "meet", Name: "comparison", Time: "0", Error: &junitFailure{Type: "failed", Message: err.Error()}}
	all := junit{Name: junitName, Tests: 1, Errors: 1, Suites: []junitSuite{{Name: "meet", Tests: 1, Errors: 1, Cases: []junitCase{failed}}}}
	return all.write()
}

func (j junit) write() ([]byte, error) {
	b, err := xml.MarshalIndent(j, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the JUnit report: %w", err)
	}
	return append([]byte(xml.Header), append(b, '\n')...), nil
}

// Sentences describe the differences, one line each.
func (r *Result) Sentences() []string {
	lines := []string{r.Asked}
	for _, d := range r.Differences {
		lines = append(lines, fmt.Sprintf("%s: expected %s, got %s", d.At, d.Expected, d.Got))
	}
	if r.Before != r.Now {
		lines = append(lines, fmt.Sprintf("the gateway: %s, before %s", r.Now, r.Before))
		if r.Hint != "" {
			lines = append(lines, r.Hint)
		}
	}
	return lines
}
