// SPDX-License-Identifier: MIT

package child

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// stopPatience is how long a process may take to end by itself.
const stopPatience = 10 * time.Second

// Process is one running child. Its handle stays valid after the end of the
// child, so no signal can reach a stranger that was given the same id.
type Process struct {
	handle *os.Process
	ended  chan struct{}
}

// Start runs cmd until it ends or the test binary does.
func Start(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = dieWithParent()
	p := &Process{ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel ties the child to the thread that started it rather than to
		// the process, so that thread must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		p.handle = cmd.Process
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait()
		close(p.ended)
	}()
	return p, <-started
}

// ID is the child's process id.
func (p *Process) ID() int { return p.handle.Pid }

// Running reports whether the child has not been seen to end.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Signal sends s; a child that has ended already is no error.
func (p *Process) Signal(s os.Signal) error {
	if err := p.handle.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Terminate asks the child to end in good order and makes sure that it does.
func (p *Process) Terminate() {
	_ = p.Signal(syscall.SIGTERM)
	_ = p.Signal(syscall.SIGCONT) // a stopped child would not see the request
	select {
	case <-p.ended:
	case <-time.After(stopPatience):
		p.Kill()
	}
}

// Kill ends the child at once, as a crash or a pulled plug does.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL)
	<-p.ended
}
