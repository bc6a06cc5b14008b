// SPDX-License-Identifier: MIT

package main

import (
	"debug/elf"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// afterStart is when a start has ended, usually.
const afterStart = time.Second

// releaseStartPages tells the kernel, once the gateway has started, that the pages of the
// program are not needed. The start maps most of the program, and the kernel would keep it
// mapped. It maps pages again as they are used, from its cache. docs/decisions.md has the
// measurements.
func releaseStartPages() {
	time.Sleep(afterStart)
	program, err := elf.Open("/proc/self/exe")
	if err != nil {
		return
	}
	defer program.Close()
	if program.Type != elf.ET_EXEC {
		return // loaded elsewhere than the file says
	}
	for _, s := range program.Progs {
		if s.Type == elf.PT_LOAD && s.Flags&elf.PF_W == 0 { // the kernel can read it from the file again
			page := uint64(os.Getpagesize())
			begin, end := s.Vaddr&^(page-1), s.Vaddr+s.Memsz
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(begin), uintptr(end-begin), unix.MADV_DONTNEED)
		}
	}
}
