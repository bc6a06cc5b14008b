// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a child process of the lab.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // of Wait, once done is closed
	// workers are the process's own children, such as nginx's workers. They are measured in its
	// place and end with it.
	workers []int
}

// start runs a command with its output in a file in dir. The process gets its own group, so that
// an interrupt reaches only this program, which then stops the processes.
func start(dir, name string, env []string, command string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(command, args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// listening waits until the process accepts connections, and finds its workers.
func (p *process) listening(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
			p.workers, err = children(p.cmd.Process.Pid)
			return err
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %w\n%s", p.name, errors.Join(p.err, errors.New("it never listened")), p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w\n%s", p.name, address, ctx.Err(), p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail returns the end of the process's output.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-10):], []byte("\n")))
}

// stop ends the process and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// pids returns the measured processes.
func (p *process) pids() []int {
	if len(p.workers) > 0 {
		return p.workers
	}
	return []int{p.cmd.Process.Pid}
}

// cpu returns the CPU time used so far.
func (p *process) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range p.pids() {
		t, err := cpuTime(pid)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.name, err)
		}
		sum += t
	}
	return sum, nil
}

// rss returns the resident memory in bytes.
func (p *process) rss() (int64, error) {
	var sum int64
	for _, pid := range p.pids() {
		statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return 0, err
		}
		var size, resident int64 // pages
		if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
			return 0, fmt.Errorf("%s: reading statm: %w", p.name, err)
		}
		sum += resident * int64(os.Getpagesize())
	}
	return sum, nil
}

// children returns the child processes of pid.
func children(pid int) (pids []int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return nil, err
	}
	for field := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		pids = append(pids, child)
	}
	return pids, nil
}

// freeAddress returns a free loopback address.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
