// SPDX-License-Identifier: MIT

//go:build !linux

package child

import "syscall"

// dieWithParent does nothing: a child outlives a test binary that is killed.
func dieWithParent() *syscall.SysProcAttr { return nil }

// Suspended assumes that SIGSTOP has taken effect.
func (p *Process) Suspended() bool { return true }
