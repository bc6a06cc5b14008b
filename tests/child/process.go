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

// stopPatience bounds a graceful shutdown.
const stopPatience = 10 * time.Second

// Process is a child. Its handle stays valid after the child has ended, so that a signal does
// not reach another process with the same id.
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
		// The child dies with the thread that started it, so the thread must live as long.
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

// ID is the process id.
func (p *Process) ID() int { return p.handle.Pid }

// Running reports whether the child has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Signal sends a signal. It is no error if the child has ended.
func (p *Process) Signal(s os.Signal) error {
	if err := p.handle.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Terminate sends SIGTERM, and SIGKILL if the child does not end.
func (p *Process) Terminate() {
	_ = p.Signal(syscall.SIGTERM)
	_ = p.Signal(syscall.SIGCONT) // a stopped child does not handle SIGTERM
	select {
	case <-p.ended:
	case <-time.After(stopPatience):
		p.Kill()
	}
}

// Kill sends SIGKILL and waits for the end.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL)
	<-p.ended
}
