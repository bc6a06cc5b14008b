// SPDX-License-Identifier: MIT

// Package conformance replays the recorded requests of Meet's external API against a
// running Meet or a gateway. It reports which answers differ, and what that means for a
// gateway in front of this Meet. contract.yaml holds the requests and the expected
// answers. Use [Run].
package conformance

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed contract.yaml
var contractYAML []byte

// table is contract.yaml.
type table struct {
	Shapes map[string]any `yaml:"shapes"`
	Lines  []line         `yaml:"lines"`
}

// line is one request and its recorded answers, one per set of Meet's settings.
type line struct {
	Line      string            `yaml:"line"`
	About     string            `yaml:"about"`
	Situation string            `yaml:"situation"`
	Asks      string            `yaml:"asks"`
	Headers   map[string]string `yaml:"headers"`
	Body      *string           `yaml:"body"`
	Write     bool              `yaml:"write"`
	MoreThan  int               `yaml:"more_than"`
	Page      string            `yaml:"page"`
	Takes     map[string]string `yaml:"takes"`
	New       bool              `yaml:"new"`
	Either    string            `yaml:"either"`
	AtGateway *atGateway        `yaml:"at_gateway"`
	Answers   []expected        `yaml:"answers"`
}

// expected is one recorded answer.
type expected struct {
	Recorded string            `yaml:"recorded"`
	Status   int               `yaml:"status"`
	Headers  map[string]string `yaml:"headers"`
	JSON     any               `yaml:"json"`
	Gateway  string            `yaml:"gateway"`
}

// atGateway says how the answer of a gateway differs from that of Meet.
type atGateway struct {
	Row    string `yaml:"row"` // in docs/compatibility.md
	Status int    `yaml:"status"`
	Size   int    `yaml:"size"` // rooms on a page
	Rooms  *int   `yaml:"rooms"`
	Skip   bool   `yaml:"skip"` // a gateway has no such path
}

var contract = sync.OnceValues(func() (*table, error) {
	t := new(table)
	if err := yaml.Unmarshal(contractYAML, t); err != nil {
		return nil, fmt.Errorf("the table of the contract: %w", err)
	}
	for i := range t.Lines {
		for j := range t.Lines[i].Answers {
			a := &t.Lines[i].Answers[j]
			a.JSON = plain(a.JSON)
		}
	}
	for name, shape := range t.Shapes {
		t.Shapes[name] = plain(shape)
	}
	return t, nil
})

// plain converts a value from YAML to the types of encoding/json.
func plain(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var out any
	if json.Unmarshal(b, &out) != nil {
		return v
	}
	return out
}

func (l *line) method() string { m, _, _ := strings.Cut(l.Asks, " "); return m }

func (l *line) path() string { _, p, _ := strings.Cut(l.Asks, " "); return p }

// outcome says how the gateway handles an answer of Meet: the status and the reason for
// its caller, and whether it fetched another token first.
type outcome struct {
	status int
	reason string
	anew   bool
	hint   string
}

const anewWords = ", after another token"

// String returns the form of contract.yaml, such as "502 misconfigured, after another token".
func (o outcome) String() string {
	s := strconv.Itoa(o.status)
	if o.reason != "ok" {
		s += " " + o.reason
	}
	if o.anew {
		s += anewWords
	}
	return s
}

func parseOutcome(s string) outcome {
	s, anew := strings.CutSuffix(s, anewWords)
	status, reason, found := strings.Cut(s, " ")
	if !found {
		reason = "ok"
	}
	n, _ := strconv.Atoi(status) // contract.yaml is tested
	return outcome{status: n, reason: reason, anew: anew}
}
