// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the user and system time of all threads of a process, including ended ones. It
// reads the process's CPU clock (clock_getcpuclockid(3)) in nanoseconds. The hundredths of a
// second in /proc/<pid>/stat are too coarse for differences of a few percent.
func cpuTime(pid int) (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED of a whole process
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts); err != nil {
		return 0, fmt.Errorf("reading the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}
