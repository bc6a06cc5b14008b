// SPDX-License-Identifier: MIT

// Package conformance replays what was recorded of Meet's external API against a
// running Meet, or against a gateway, and says which answers differ and what that
// means for a gateway in front of it. contract.yaml is the table of what is asked
// and expected.
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

// line is one request and what Meet was recorded to answer, by settings.
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

// atGateway is what a gateway answers otherwise than Meet.
type atGateway struct {
	Row    string `yaml:"row"` // of docs/compatibility.md
	Status int    `yaml:"status"`
	Size   int    `yaml:"size"` // rooms on a page
	Rooms  *int   `yaml:"rooms"`
	Skip   bool   `yaml:"skip"` // it has no such path
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

// plain makes of what YAML reads what encoding/json reads.
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

// method and path of what a line asks.
func (l *line) method() string { m, _, _ := strings.Cut(l.Asks, " "); return m }

func (l *line) path() string { _, p, _ := strings.Cut(l.Asks, " "); return p }

// outcome is what the gateway makes of an answer: what its caller gets, why, and
// whether another token is fetched first.
type outcome struct {
	status int
	reason string
	anew   bool
	hint   string
}

const anewWords = ", after another token"

// String writes it as the table does: "502 misconfigured, after another token".
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
	n, _ := strconv.Atoi(status) // the table is ours
	return outcome{status: n, reason: reason, anew: anew}
}
