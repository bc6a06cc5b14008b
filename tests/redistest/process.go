package redistest

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

// process is one running child. Its handle stays valid after the end of the
// child, so no signal can reach a stranger that was given the same id.
type process struct {
	handle *os.Process
	ended  chan struct{}
}

// startProcess runs cmd until it ends or the test binary does.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = dieWithParent()
	p := &process{ended: make(chan struct{})}
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

// running reports whether the child has not been seen to end.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// signal sends s; a child that has ended already is no error.
func (p *process) signal(s os.Signal) error {
	if err := p.handle.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// terminate asks the child to end in good order and makes sure that it does.
func (p *process) terminate() {
	_ = p.signal(syscall.SIGTERM)
	_ = p.signal(syscall.SIGCONT) // a stopped child would not see the request
	select {
	case <-p.ended:
	case <-time.After(stopPatience):
		p.kill()
	}
}

// kill ends the child at once, as a crash or a pulled plug does.
func (p *process) kill() {
	_ = p.signal(syscall.SIGKILL)
	<-p.ended
}
