// SPDX-License-Identifier: MIT

package main

import (
	"os"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// afterStart is when a start has ended, usually.
const afterStart = time.Second

// unchangedMapping matches a part of /proc/PID/smaps: a file that is mapped for reading only, none of
// whose pages was changed in memory, nor is such a page swapped out. The loader, a debugger, a probe
// and a packer change some.
var unchangedMapping = regexp.MustCompile(`(?m)^([0-9a-f]+)-([0-9a-f]+) r-.p \S+ \S+ [1-9].*\n([A-Z].*\n)*?Anonymous: +0 kB\n([A-Z].*\n)*?Swap: +0 kB$`)

// releaseStartPages tells the kernel, once the gateway has started, that the pages of the
// program are not needed. The start maps most of the program, and the kernel would keep it
// mapped. It maps pages again as they are used, from its cache. docs/decisions.md has the
// measurements.
func releaseStartPages() {
	time.Sleep(afterStart)
	mappings, _ := os.ReadFile("/proc/self/smaps") // without it there is nothing to do
	for _, m := range unchangedMapping.FindAllSubmatch(mappings, -1) {
		begin, _ := strconv.ParseUint(string(m[1]), 16, strconv.IntSize)
		end, _ := strconv.ParseUint(string(m[2]), 16, strconv.IntSize)
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(begin), uintptr(end-begin), unix.MADV_DONTNEED)
	}
}
