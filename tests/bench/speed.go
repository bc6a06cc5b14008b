// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"os"
)

// speedSteps takes some milliseconds.
const speedSteps = 4_000_000

// machineSpeed runs a fixed loop and returns how many million steps of it a second
// of CPU time makes. The loop is of dependent operations on registers, so it shows
// the clock of the core and nothing of caches. Two tables that were measured at
// different speeds compare by their ratios alone.
func machineSpeed() (float64, error) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		return 0, err
	}
	x := uint64(1)
	for range speedSteps {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	after, err := cpuTime(os.Getpid())
	if err != nil || after == before {
		return 0, err
	}
	if x == 0 { // never: it keeps the loop
		return 0, nil
	}
	return speedSteps / (after - before).Seconds() / 1e6, nil
}

// speeds collects the machine's speed while each table is measured.
type speeds map[string][]float64

func (s speeds) note(table string) error {
	v, err := machineSpeed()
	if err == nil {
		s[table] = append(s[table], v)
	}
	return err
}

// Line is for the report.
func (s speeds) Line(table string) string {
	if len(s[table]) == 0 {
		return ""
	}
	return fmt.Sprintf("Machine's speed: %s million steps a second.", spreadOf(s[table], itself))
}
