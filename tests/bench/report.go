// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// report is everything that was measured.
type report struct {
	Machine      machine
	Settings     settings
	Cases        []*result
	Peers        []peer
	Missing      []string
	Fixed        *fixedRate
	Memory       []resident
	Sweeps       []*sweep
	Micros       []micro
	Signing      float64 // microseconds
	Revocation   revocation
	Profiles     []profiled
	Live         []livePoint
	Coefficients coefficients
	Spreads      []spreadRequests
	Feeds        []feedStep
	Blend        blended
	Trips        []trips
	// The machine's speed while the cases, and while the mixture, were measured.
	CaseSpeeds, BlendSpeeds speeds
}

// resident is memory at some moment, in bytes.
type resident struct {
	When        string
	Plain, Gate int64
}

// remember notes the memory of plain and gate.
func (r *report) remember(plain, gate *server, when string) error {
	m := resident{When: when}
	var err error
	if m.Plain, err = plain.processes[0].rss(); err != nil {
		return err
	}
	if m.Gate, err = gate.processes[0].rss(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%-28s A %d MB  B %d MB resident, %s\n", "memory", m.Plain>>20, m.Gate>>20, when)
	r.Memory = append(r.Memory, m)
	return nil
}

// Case finds a case by its id, nil if it was not run.
func (r *report) Case(id string) *result {
	for _, c := range r.Cases {
		if c.ID == id {
			return c
		}
	}
	return nil
}

//go:embed benchmarks.md.tmpl
var benchmarksTemplate string

//go:embed scaling.md.tmpl
var scalingTemplate string

// render fills a template.
func render(text string, data any) ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{
		"join":      strings.Join,
		"mb":        func(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/(1<<20)) },
		"f0":        func(v float64) string { return thousands(v) },
		"f1":        func(v float64) string { return fmt.Sprintf("%.1f", v) },
		"f2":        func(v float64) string { return fmt.Sprintf("%.2f", v) },
		"n":         func(v int) string { return thousands(float64(v)) },
		"size":      size,
		"mul":       func(a, b float64) float64 { return a * b },
		"percent":   percent,
		"verdict":   verdict,
		"cpuA":      (*result).cpuA,
		"cpuB":      (*result).cpuB,
		"ratios":    (*result).ratios,
		"best":      (*result).best,
		"rate":      func(r *result) string { return thousands(r.b(func(s sample) float64 { return s.perSecond() })) },
		"commands":  func(r *result) string { return fmt.Sprintf("%.2f", r.b(sample.commandsPerRequest)) },
		"bytes":     func(r *result) string { return fmt.Sprintf("%.0f", r.b(redisBytes)) },
		"upstreams": func(r *result) string { return fmt.Sprintf("%.2f", math.Abs(r.b(sample.upstreamPerRequest))) },
		"cpuPeer":   func(p peer) spread { return p.cpuB() },
		"ratioPeer": func(p peer) spread { return p.ratios() },
	}).Parse(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func redisBytes(s sample) float64 { return float64(s.RedisIn+s.RedisOut) / float64(s.Requests) }

// percent is by how much measured differs from predicted.
func percent(measured, predicted float64) string {
	if predicted == 0 {
		return ""
	}
	return fmt.Sprintf("%+.0f %%", 100*(measured/predicted-1))
}

// verdict compares a measured ratio with its budget.
func verdict(measured spread, budget float64) string {
	switch {
	case budget == 0:
		return ""
	case measured.Median <= budget:
		return fmt.Sprintf("≤ %.4g: met", budget)
	default:
		return fmt.Sprintf("≤ %.4g: **missed**", budget)
	}
}

// size writes a number of bytes.
func size(v float64) string {
	for _, unit := range []string{"B", "kB", "MB", "GB", "TB"} {
		if v < 1000 || unit == "TB" {
			return fmt.Sprintf("%.3g %s", v, unit)
		}
		v /= 1000
	}
	return ""
}

// write puts the report where it is read.
func (r *report) write(top string) error {
	docs := filepath.Join(top, "docs")
	if err := os.MkdirAll(docs, 0o755); err != nil {
		return err
	}
	benchmarks, err := render(benchmarksTemplate, r)
	if err != nil {
		return fmt.Errorf("docs/benchmarks.md: %w", err)
	}
	scaling, err := render(scalingTemplate, newModel(r))
	if err != nil {
		return fmt.Errorf("docs/scaling.md: %w", err)
	}
	files := map[string][]byte{"benchmarks.md": benchmarks, "scaling.md": scaling}
	for _, s := range r.Sweeps {
		files["cost-"+s.ID+".svg"] = []byte(s.plot())
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(docs, name), content, 0o600); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(docs, name), 0o644); err != nil { // for everybody to read
			return err
		}
	}
	return nil
}

func (s *sweep) plot() string {
	var xs []int
	plain, gate := series{name: "plain Caddy", color: "#888888"}, series{name: "gateway", color: "#1f5fbf"}
	for _, p := range s.Points {
		xs = append(xs, p.X)
		plain.values = append(plain.values, p.Plain)
		gate.values = append(gate.values, p.Gate)
	}
	return plot("CPU per request against "+s.Name, s.Name, "µs of CPU per request", xs, []series{plain, gate})
}

// print writes the short table.
func (r *report) print() {
	fmt.Printf("\n%-58s %18s %18s %22s  %s\n", "case", "A µs/request", "B µs/request", "B/A", "budget")
	for _, c := range r.Cases {
		fmt.Printf("%-58s %18s %18s %22s  %s\n", c.Name, c.cpuA(), c.cpuB(), c.ratios(), verdict(c.ratios(), c.Budget))
	}
	for _, p := range r.Peers {
		fmt.Printf("%-58s %18s %18s %22s\n", p.Name, p.cpuA(), p.cpuB(), p.ratios())
	}
	if r.Fixed != nil {
		fmt.Printf("%-58s %18s %18s %22s  %s\n", fmt.Sprintf("p99 at %d/s, ms", r.Fixed.Rate), r.Fixed.A99(), r.Fixed.B99(), r.Fixed.Ratio99(), verdict(r.Fixed.Ratio99(), 1.3))
	}
}
