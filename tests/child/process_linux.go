// SPDX-License-Identifier: MIT

package child

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// dieWithParent ends the child when the test binary ends in any way, a panic
// or a kill included.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// Suspended reports whether the child has come to a halt after SIGSTOP: the
// signal returns before a child running on another core has obeyed it.
func (p *Process) Suspended() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.handle.Pid))
	if err != nil {
		return false
	}
	// pid (name) state …; the name may hold anything but is closed by the last ")".
	_, state, _ := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(" "))
	return bytes.HasPrefix(state, []byte("T"))
}
