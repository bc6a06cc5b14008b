// SPDX-License-Identifier: MIT

package child

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// dieWithParent kills the child when the test binary ends, even if that is killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// Suspended reports whether the child has stopped after SIGSTOP, which takes effect after
// Signal returns.
func (p *Process) Suspended() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.handle.Pid))
	if err != nil {
		return false
	}
	// pid (name) state …; the name may contain ")".
	_, state, _ := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(" "))
	return bytes.HasPrefix(state, []byte("T"))
}
