// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// report is everything that was measured.
type report struct {
	Machine      machine
	Settings     settings
	Took         time.Duration
	LeftOut      []string // parts that were skipped for lack of time
	Failed       []string // parts that could not be measured
	Missing      []string // sentences about programs that are not installed
	Cases        []*result
	Peers        []peer
	Fixed        *fixedRate
	Memory       []resident
	Sweeps       []*sweep
	Micros       []string
	Revocation   revocation
	Profiles     []profiled
	Contention   []contended
	Live         []livePoint
	Coefficients coefficients
	Spreads      []spreadRequests
	Feeds        []feedStep
	Floods       []feedStep // many changes at once
	Blend        blended
	Trips        []trips
	Speeds       speeds
}

// memory is the memory of a process, in bytes.
type memory struct {
	RSS  int64 // resident
	Heap int64 // in use after a garbage collection
}

// resident is the memory of both servers at one moment, with a number of known tokens.
type resident struct {
	When        string
	Known       int
	Plain, Gate memory
}

// remember records the memory of plain and of a gateway.
func (b *bench) remember(ctx context.Context, gate *server, when string, known int) error {
	m := resident{When: when, Known: known}
	for s, of := range map[*server]*memory{b.plain: &m.Plain, gate: &m.Gate} {
		var err error
		if of.RSS, err = s.processes[0].rss(); err != nil {
			return err
		}
		if _, err = get(ctx, "http://"+s.admin+"/debug/pprof/heap?gc=1"); err != nil {
			return err
		}
		heap, err := metric(ctx, s, "go_memstats_heap_alloc_bytes")
		if err != nil {
			return err
		}
		of.Heap = int64(heap)
	}
	fmt.Fprintf(os.Stderr, "%-28s A %d MB  B %d MB resident, %d and %d MB heap, %s\n", "memory", m.Plain.RSS>>20, m.Gate.RSS>>20, m.Plain.Heap>>20, m.Gate.Heap>>20, when)
	b.report.Memory = append(b.report.Memory, m)
	return nil
}

// perToken returns the memory that a known token adds to a gateway, including its share of the
// user and of Meet's token; 0 if that was not measured.
func (r *report) perToken(of func(memory) int64) float64 {
	if len(r.Memory) < 2 {
		return 0
	}
	first, last := r.Memory[0], r.Memory[len(r.Memory)-1]
	return float64(of(last.Gate)-of(first.Gate)) / float64(last.Known)
}

// get fetches an address.
func get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

// metric fetches one metric of a Caddy.
func metric(ctx context.Context, s *server, name string) (float64, error) {
	text, err := get(ctx, "http://"+s.admin+"/metrics")
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut("\n"+string(text), "\n"+name+" ")
	if !found {
		return 0, fmt.Errorf("%s has no metric %s", s.name, name)
	}
	value, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseFloat(value, 64)
}

// goal is a budget in absolute numbers.
type goal struct {
	What     string
	Measured spread
	Budget   float64
	Unit     string
}

// Goals returns the measured values that have an absolute budget.
func (r *report) Goals() []goal {
	var goals []goal
	add := func(what string, measured, budget float64, unit string) {
		goals = append(goals, goal{what, spread{measured, measured, measured}, budget, unit})
	}
	for _, t := range r.Trips {
		if t.Budget > 0 {
			add("round trips to Redis that a caller waits for: "+t.Name, math.Round(t.Trips()), t.Budget, "")
		}
	}
	if c := r.Case("token"); c != nil {
		add("Redis commands of a token request", c.b(sample.commandsPerRequest), 3, "")
	}
	if r.Revocation.Samples > 0 {
		add("delay of a revocation on the other nodes, p99", r.Revocation.P99, 20, " ms")
	}
	for _, m := range r.Memory {
		budget := 60.0
		if m.Known > 0 {
			budget = 100
		}
		add("resident memory, "+m.When, float64(m.Gate.RSS)/1e6, budget, " MB")
	}
	if heap := r.perToken(func(m memory) int64 { return m.Heap }); heap > 0 {
		add("heap for a known token, with its share of the user and of Meet's token", heap, 500, " B")
	}
	if r.Fixed != nil && len(r.Fixed.Longer) > 0 {
		goals = append(goals, goal{"longest stop of all goroutines in two seconds, gateway with 100,000 known tokens less plain", spreadOf(r.Fixed.Longer, itself), 1, " ms"})
	}
	for _, c := range r.Contention {
		add(fmt.Sprintf("time that goroutines wait for one mutex, `GOMAXPROCS` %d", c.Cores), c.worst(), 1, " %")
	}
	return goals
}

// Verdict compares the measured value with the budget.
func (g goal) Verdict() string {
	return verdict(g.Measured, g.Budget)
}

// Value is the measured value, with its interval if there is one.
func (g goal) Value() string {
	if g.Measured.Low == g.Measured.High {
		return fmt.Sprintf("%.2f%s", g.Measured.Median, g.Unit)
	}
	return g.Measured.String() + g.Unit
}

// Case returns the case with an id, nil if it was not run.
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
		"join":   strings.Join,
		"size64": func(n int64) string { return size(float64(n)) },
		"n64":    func(n int64) string { return thousands(float64(n)) },
		"f0":     func(v float64) string { return thousands(v) },
		"f1":     func(v float64) string { return fmt.Sprintf("%.1f", v) },
		"f2":     func(v float64) string { return fmt.Sprintf("%.2f", v) },
		"n":      func(v int) string { return thousands(float64(v)) },
		"size":   size,
		"mul":    func(a, b float64) float64 { return a * b },
		"assumed": func() map[string]float64 {
			return map[string]float64{
				"Cores": nodeCores, "Busy": nodeUtilisation * 100, "Lifetime": tokenLifetime, "TokensPerUser": tokensPerUser, "ShardMemory": shardMemory, "RedisBusy": redisBusy * 100,
			}
		},
		"percent": percent,
		"verdict": verdict,
		"p50":     func() func(latency) float64 { return p50 },
		"p99":     func() func(latency) float64 { return p99 },
		"p999":    func() func(latency) float64 { return p999 },
		"missed":  (*result).missed,
		"cpuA":    (*result).cpuA,
		"cpuB":    (*result).cpuB,
		"ratios":  (*result).ratios,
		"rate": func(r *result) string {
			if r.Limited {
				return ""
			}
			return thousands(r.b(func(s sample) float64 { return s.perSecond() }))
		},
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

// percent formats the difference of measured from predicted.
func percent(measured, predicted float64) string {
	if predicted == 0 {
		return ""
	}
	return fmt.Sprintf("%+.0f %%", 100*(measured/predicted-1))
}

// verdict compares the median of a ratio with its budget. If the budget lies inside the interval,
// the verdict says so, because another run may give another one.
func verdict(measured spread, budget float64) string {
	if budget == 0 {
		return ""
	}
	word, near := "met", ""
	if measured.Median > budget {
		word = "**missed**"
	}
	if measured.Low <= budget && budget < measured.High {
		near = ", within the spread"
	}
	return fmt.Sprintf("≤ %.4g: %s%s", budget, word, near)
}

// size formats a number of bytes.
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
	files := map[string][]byte{"benchmarks.md": benchmarks}
	if len(r.Feeds) > 0 { // measured last in capacity
		if files["scaling.md"], err = render(scalingTemplate, newModel(r)); err != nil {
			return fmt.Errorf("docs/scaling.md: %w", err)
		}
	}
	for _, s := range r.Sweeps {
		files["cost-"+s.ID+".svg"] = []byte(s.plot())
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(docs, name), content, 0o600); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(docs, name), 0o644); err != nil { // world-readable
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
	return plot("CPU per request by "+s.Name, s.Name, "µs of CPU per request", xs, []series{plain, gate})
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
		fmt.Printf("%-58s %18s %18s %22s  %s\n", fmt.Sprintf("p99 at %d/s, ms", r.Fixed.Rate), r.Fixed.Of(true, p99), r.Fixed.Of(false, p99), r.Fixed.Ratio99(), verdict(r.Fixed.Ratio99(), 1.3))
	}
	for _, g := range r.Goals() {
		fmt.Printf("%-100s %14s %s\n", g.What, g.Value(), g.Verdict())
	}
}
