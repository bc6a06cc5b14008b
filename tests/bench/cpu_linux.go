// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the time that all threads of a process, past ones included, have
// spent on a CPU, user and system together. It reads the process's own CPU clock
// (clock_getcpuclockid(3)), which counts nanoseconds; /proc/<pid>/stat counts
// hundredths of a second, too coarse for a difference of a few percent.
func cpuTime(pid int) (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED of a whole process
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts); err != nil {
		return 0, fmt.Errorf("reading the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}
