// SPDX-License-Identifier: MIT

//go:build !linux

package child

import "syscall"

// dieWithParent does nothing where the kernel offers nothing for it: there a
// child outlives a test binary that was killed.
func dieWithParent() *syscall.SysProcAttr { return nil }

// Suspended trusts that SIGSTOP has been obeyed.
func (p *Process) Suspended() bool { return true }
