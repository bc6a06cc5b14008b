//go:build !linux

package redistest

import "syscall"

// dieWithParent does nothing where the kernel offers nothing for it: there a
// child outlives a test binary that was killed.
func dieWithParent() *syscall.SysProcAttr { return nil }

// suspended trusts that SIGSTOP has been obeyed.
func (p *process) suspended() bool { return true }
