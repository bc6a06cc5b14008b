// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"os"
)

// speedSteps is the length of the loop, which takes some milliseconds.
const speedSteps = 4_000_000

// machineSpeed runs a fixed loop and returns its speed in million steps per second of CPU time.
// The loop consists of dependent operations on registers, so it measures the clock of the core and
// not the caches.
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
	if x == 0 { // never true; keeps the compiler from removing the loop
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

// Line returns the speed during a table as a sentence for the report.
func (s speeds) Line(table string) string {
	if len(s[table]) == 0 {
		return ""
	}
	return fmt.Sprintf("Machine's speed: %s million steps a second.", spreadOf(s[table], itself))
}
