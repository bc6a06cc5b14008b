// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/exp/trace"
)

// stop is one stop of all goroutines, in milliseconds.
type stop struct {
	Reason string
	Took   float64
	// Stopping is the part until the last goroutine had stopped. A goroutine stops only while
	// its thread has a core, so this takes long if other processes use all cores.
	Stopping float64
}

// traced is what execution traces say about garbage collection. Times are in milliseconds.
type traced struct {
	Took  float64
	Stops []stop
	Marks []float64 // each mark phase
	// Assists are the times that goroutines ran to assist marking.
	Assists []float64
	// WaitsMarking and Waits are the times that runnable goroutines waited for a P, in mark
	// phases and otherwise.
	WaitsMarking, Waits []float64
}

// The collector stops all goroutines for these reasons.
const (
	sweepTermination = "GC sweep termination" // before marking
	markTermination  = "GC mark termination"
)

// add adds what another trace says.
func (t *traced) add(o *traced) {
	t.Took += o.Took
	t.Stops = append(t.Stops, o.Stops...)
	t.Marks = append(t.Marks, o.Marks...)
	t.Assists = append(t.Assists, o.Assists...)
	t.WaitsMarking = append(t.WaitsMarking, o.WaitsMarking...)
	t.Waits = append(t.Waits, o.Waits...)
}

// longest returns the longest stop by the collector.
func (t *traced) longest() float64 {
	var longest float64
	for _, s := range t.Stops {
		if s.Reason == sweepTermination || s.Reason == markTermination {
			longest = max(longest, s.Took)
		}
	}
	return longest
}

// perSecond is a number for each second of the traces.
func (t *traced) perSecond(v float64) float64 { return 1000 * v / t.Took }

// Row returns a row of the report's table.
func (t *traced) Row(row string) string {
	switch row {
	case "collections":
		return fmt.Sprintf("%.1f, %.1f %%", t.perSecond(float64(len(t.Marks))), 100*sum(t.Marks)/t.Took)
	case "mark":
		return quantiles(t.Marks)
	case "assists":
		return fmt.Sprintf("%.0f, %.1f %%", t.perSecond(float64(len(t.Assists))), 100*sum(t.Assists)/t.Took)
	case "assist":
		return quantiles(t.Assists)
	case "waits":
		return quantiles(t.Waits)
	case "waits marking":
		return quantiles(t.WaitsMarking)
	}
	reason, stopping := strings.CutSuffix(row, ", stopping")
	var took []float64
	for _, s := range t.Stops {
		switch {
		case s.Reason == reason && stopping:
			took = append(took, s.Stopping)
		case s.Reason == reason:
			took = append(took, s.Took)
		}
	}
	return quantiles(took)
}

func sum(values []float64) (all float64) {
	for _, v := range values {
		all += v
	}
	return all
}

// quantiles prints the median, the 99th percentile and the largest value.
func quantiles(values []float64) string {
	if len(values) == 0 {
		return ""
	}
	slices.Sort(values)
	return fmt.Sprintf("%.3f / %.2f / %.2f", percentile(values, 0.5), percentile(values, 0.99), values[len(values)-1])
}

// traceServer takes an execution trace of a server, which must be under load.
func traceServer(ctx context.Context, s *server, d time.Duration) (*traced, error) {
	content, err := get(ctx, fmt.Sprintf("http://%s/debug/pprof/trace?seconds=%g", s.admin, d.Seconds()))
	if err != nil {
		return nil, err
	}
	t, err := readTrace(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("reading a trace of %s: %w", s.name, err)
	}
	return t, nil
}

const (
	stopPrefix = "stop-the-world ("
	markPhase  = "GC concurrent mark phase"
	markAssist = "GC mark assist"
)

// readTrace reads an execution trace.
func readTrace(from io.Reader) (*traced, error) {
	events, err := trace.NewReader(from)
	if err != nil {
		return nil, err
	}
	r := traceReader{runnable: map[trace.GoID]wait{}, running: map[trace.GoID]trace.Time{}, assists: map[trace.GoID]time.Duration{}}
	for {
		e, err := events.ReadEvent()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		r.last = e.Time()
		r.first = cmp.Or(r.first, r.last)
		switch e.Kind() { //nolint:exhaustive // only these count
		case trace.EventRangeBegin:
			r.begin(e)
		case trace.EventRangeEnd:
			r.end(e)
		case trace.EventStateTransition:
			r.transition(e)
		}
	}
	r.Took = ms(r.last.Sub(r.first))
	return &r.traced, nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// traceReader is the state while a trace is read.
type traceReader struct {
	traced
	first, last trace.Time
	// The stop and the mark phase that last; 0 if none does.
	stopSince, stopped, marking trace.Time
	runnable                    map[trace.GoID]wait
	running                     map[trace.GoID]trace.Time    // since when
	assists                     map[trace.GoID]time.Duration // for how long they ran
}

// wait is the begin of a wait for a P.
type wait struct {
	since   trace.Time
	marking bool
}

func (r *traceReader) begin(e trace.Event) {
	switch name := e.Range().Name; {
	case strings.HasPrefix(name, stopPrefix):
		r.stopSince, r.stopped = e.Time(), e.Time()
	case name == markPhase:
		r.marking = e.Time()
	case name == markAssist:
		r.assists[e.Range().Scope.Goroutine()] = 0
		r.running[e.Range().Scope.Goroutine()] = e.Time()
	}
}

func (r *traceReader) end(e trace.Event) {
	switch name := e.Range().Name; {
	case strings.HasPrefix(name, stopPrefix) && r.stopSince != 0:
		reason := strings.TrimSuffix(strings.TrimPrefix(name, stopPrefix), ")")
		r.Stops = append(r.Stops, stop{reason, ms(e.Time().Sub(r.stopSince)), ms(r.stopped.Sub(r.stopSince))})
		r.stopSince = 0
	case name == markPhase && r.marking != 0:
		r.Marks = append(r.Marks, ms(e.Time().Sub(r.marking)))
		r.marking = 0
	case name == markAssist:
		g := e.Range().Scope.Goroutine()
		if ran, ok := r.assists[g]; ok {
			r.Assists = append(r.Assists, ms(ran+e.Time().Sub(r.running[g])))
			delete(r.assists, g)
		}
	}
}

func (r *traceReader) transition(e trace.Event) {
	t := e.StateTransition()
	switch t.Resource.Kind { //nolint:exhaustive // only these count
	case trace.ResourceProc:
		if from, to := t.Proc(); r.stopSince != 0 && from == trace.ProcRunning && to != trace.ProcRunning {
			r.stopped = e.Time()
		}
	case trace.ResourceGoroutine:
		g := t.Resource.Goroutine()
		from, to := t.Goroutine()
		if from == trace.GoRunning && to != trace.GoRunning {
			if ran, ok := r.assists[g]; ok {
				r.assists[g] = ran + e.Time().Sub(r.running[g])
			}
			delete(r.running, g)
		}
		switch to {
		case trace.GoRunnable:
			r.runnable[g] = wait{e.Time(), r.marking != 0}
		case trace.GoRunning:
			r.running[g] = e.Time()
			if w, ok := r.runnable[g]; ok && from == trace.GoRunnable {
				took := ms(e.Time().Sub(w.since))
				if w.marking {
					r.WaitsMarking = append(r.WaitsMarking, took)
				} else {
					r.Waits = append(r.Waits, took)
				}
			}
			delete(r.runnable, g)
		default:
			delete(r.runnable, g)
		}
	}
}
