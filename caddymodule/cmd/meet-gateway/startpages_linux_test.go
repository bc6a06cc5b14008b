// SPDX-License-Identifier: MIT

package main

import (
	"os"
	"regexp"
	"strconv"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// residentFile returns how much of the program file is resident, in kB.
func residentFile(t *testing.T) int {
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	match := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(t, match)
	size, err := strconv.Atoi(string(match[1]))
	require.NoError(t, err)
	return size
}

// header returns the first page of the program, which nobody reads once it is loaded.
func header(t *testing.T) []byte {
	path, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	match := regexp.MustCompile(`(?m)^([0-9a-f]+)-\S+ r-.p 00000000 .* ` + regexp.QuoteMeta(path) + `$`).FindSubmatch(maps)
	require.NotNil(t, match)
	begin, err := strconv.ParseUint(string(match[1]), 16, strconv.IntSize)
	require.NoError(t, err)
	return unsafe.Slice((*byte)(unsafe.Add(nil, begin)), os.Getpagesize())
}

func TestReleaseStartPages(t *testing.T) {
	before := residentFile(t)
	releaseStartPages()
	require.Less(t, residentFile(t), before/2)

	// What was changed in memory is kept, such as the breakpoint of a debugger.
	page := header(t)
	require.NoError(t, unix.Mprotect(page, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC))
	page[len("\x7fELF")+5]++
	changed := string(page)
	require.NoError(t, unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC))
	releaseStartPages()
	require.Equal(t, changed, string(page))
}

func TestUnchangedMapping(t *testing.T) {
	for _, c := range []struct {
		header, anonymous, swap string
		unchanged               bool
	}{
		{"400000-401000 r-xp 00000000 fe:00 7  /usr/bin/meet-gateway", "0", "0", true},
		{"400000-401000 r--p 00000000 fe:00 7  /usr/bin/a b (deleted)", "0", "0", true},
		{"400000-401000 r-xp 00000000 fe:00 7  /usr/bin/meet-gateway", "4", "0", false},
		{"400000-401000 r-xp 00000000 fe:00 7  /usr/bin/meet-gateway", "0", "4", false},
		{"400000-401000 rw-p 00000000 fe:00 7  /usr/bin/meet-gateway", "0", "0", false},
		{"400000-401000 r--s 00000000 fe:00 7  /usr/bin/meet-gateway", "0", "0", false},
		{"400000-401000 r-xp 00000000 00:00 0  [vdso]", "0", "0", false},
	} {
		text := c.header + "\nSize: 4 kB\nAnonymous: " + c.anonymous + " kB\nKSM: 0 kB\nSwap: " + c.swap + " kB\nVmFlags: rd\n"
		other := "500000-501000 rw-p 00000000 00:00 0\nAnonymous: 0 kB\nSwap: 0 kB\n"
		require.Equal(t, c.unchanged, unchangedMapping.MatchString(text+other), text)
		require.Equal(t, c.unchanged, unchangedMapping.MatchString(other+text), text)
	}
}
