// SPDX-License-Identifier: MIT

package redistest

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/meet-gateway/meet-gateway/tests/child"
)

// patience bounds every wait of this package.
const patience = 30 * time.Second

// errAddressInUse means that a process without a claim took the port.
var errAddressInUse = errors.New("address already in use")

// Server is a redis-server process on loopback. It keeps its port and its folder when it is
// restarted. Its methods may be called concurrently.
type Server struct {
	dir          string
	claim        *child.PortClaim
	args         []string       // of redis-server
	password     string         // of the default user, from --requirepass
	roots        *x509.CertPool // of a server with TLS
	certificates string         // the folder of its certificate

	mu   sync.Mutex
	proc *child.Process

	client *redis.Client
}

// Standalone starts a server that keeps nothing on disk. Further arguments are options of
// redis-server, such as "--appendonly", "yes". A password of the default user must be given
// as "--requirepass", "…".
func Standalone(t testing.TB, extraArgs ...string) *Server {
	t.Helper()
	return launch(t, func(s *Server) error {
		s.args = s.serverArgs()
		s.configure(extraArgs)
		return nil
	})
}

// configure adds options of a test.
func (s *Server) configure(extraArgs []string) {
	s.args = append(s.args, extraArgs...)
	if i := slices.Index(extraArgs, "--requirepass"); i >= 0 && i+1 < len(extraArgs) {
		s.password = extraArgs[i+1]
	}
}

// launch starts a server. prepare sets its arguments and writes its files. If another process
// takes the port, launch tries another one.
func launch(t testing.TB, prepare func(*Server) error) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("redis-server is not installed; the tests need it: apt-get install redis-server")
	}
	for attempt := 1; ; attempt++ {
		claim, err := child.ClaimPort()
		if err != nil {
			t.Fatal("redistest:", err)
		}
		s := &Server{dir: t.TempDir(), claim: claim}
		if err := prepare(s); err != nil {
			claim.Release()
			t.Fatal("redistest:", err)
		}
		err = s.start()
		if err == nil {
			s.client = redis.NewClient(s.options())
			t.Cleanup(s.end)
			return s
		}
		claim.Release()
		if !errors.Is(err, errAddressInUse) || attempt == 5 {
			t.Fatal("redistest:", err)
		}
	}
}

// serverArgs are the options that every data server shares.
func (s *Server) serverArgs() []string {
	return []string{
		"--port", strconv.Itoa(s.claim.Port),
		"--bind", "127.0.0.1",
		"--dir", s.dir,
		"--save", "",
		"--appendonly", "no",
		"--repl-diskless-sync-delay", "0",
	}
}

// Addr is the server's host:port.
func (s *Server) Addr() string { return s.claim.Addr() }

// URL is the server's redis:// or rediss:// URL, with the password if it has one.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", Host: s.Addr()}
	if s.roots != nil {
		u.Scheme = "rediss"
	}
	if s.password != "" {
		u.User = url.UserPassword("", s.password)
	}
	return u.String()
}

// Client is a client of the server. It is closed at the end of the test.
func (s *Server) Client() *redis.Client { return s.client }

// Start restarts the server and returns when it answers. It loads what it kept on disk.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal("redistest:", err)
	}
}

// Stop shuts the server down and returns when the process has ended. The server may be
// paused or stopped.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.Terminate()
}

// Kill ends the server as a crash does and returns when the process has ended.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.Kill()
}

// Pause stops the process until Resume. The kernel still accepts connections for it.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.proc.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal("redistest: pausing the server:", err)
	}
	eventually(t, "the server to come to a halt", s.proc.Suspended)
}

// Resume ends Pause.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.proc.Signal(syscall.SIGCONT); err != nil {
		t.Fatal("redistest: resuming the server:", err)
	}
}

// Running reports whether the server is started, paused or not.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.Running()
}

// FlushAll empties the server.
func (s *Server) FlushAll(t testing.TB) {
	t.Helper()
	s.do(t, "FLUSHALL", "SYNC")
}

// SetReadOnly makes the server a replica: it answers reads and refuses writes with READONLY.
func (s *Server) SetReadOnly(t testing.TB, readOnly bool) {
	t.Helper()
	if readOnly {
		s.do(t, "REPLICAOF", "127.0.0.1", "1") // nothing listens on port 1
		return
	}
	s.do(t, "REPLICAOF", "NO", "ONE")
}

// RequireReplicas makes the server refuse writes with NOREPLICAS while it has fewer than n
// replicas.
func (s *Server) RequireReplicas(t testing.TB, n int) {
	t.Helper()
	s.do(t, "CONFIG", "SET", "min-replicas-to-write", n)
}

// do runs a command that must succeed.
func (s *Server) do(t testing.TB, args ...any) any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := s.client.Do(ctx, args...).Result()
	if err != nil {
		t.Fatalf("redistest: %v at %s: %v", args[0], s.Addr(), err)
	}
	return answer
}

func (s *Server) options() *redis.Options {
	return &redis.Options{
		Addr:                     s.Addr(),
		Password:                 s.password,
		TLSConfig:                s.TLSConfig(),
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// start runs the process and waits until it answers.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil && s.proc.Running() {
		return fmt.Errorf("the server at %s is running already", s.Addr())
	}
	logName := filepath.Join(s.dir, "redis.log")
	log, err := os.Create(logName)
	if err != nil {
		return fmt.Errorf("opening the server's log: %w", err)
	}
	defer log.Close()

	cmd := exec.Command("redis-server", s.args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C") // newer servers refuse to start under an unknown locale
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := child.Start(cmd)
	if err != nil {
		return fmt.Errorf("starting redis-server: %w", err)
	}
	deadline := time.Now().Add(patience)
	for !s.answers(proc) {
		if proc.Running() && time.Now().Before(deadline) {
			time.Sleep(pollEvery)
			continue
		}
		proc.Kill()
		text, _ := os.ReadFile(logName)
		if bytes.Contains(bytes.ToLower(text), []byte("already in use")) {
			return fmt.Errorf("%w: %s", errAddressInUse, s.Addr())
		}
		return fmt.Errorf("redis-server did not come up at %s; its log:\n%s", s.Addr(), text)
	}
	s.proc = proc
	return nil
}

// answers reports whether proc, and no other process, serves at the address and has loaded
// its data. It makes a new client each time, since a client that failed backs off.
func (s *Server) answers(proc *child.Process) bool {
	conn, err := net.Dial("tcp", s.Addr()) // a client would log each failure
	if err != nil {
		return false
	}
	_ = conn.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	opts := s.options()
	opts.MaxRetries = -1
	opts.ContextTimeoutEnabled = true
	c := redis.NewClient(opts)
	defer c.Close()
	if c.Ping(ctx).Err() != nil {
		return false
	}
	info, err := c.Info(ctx, "server").Result()
	return err == nil && infoField(info, "process_id") == strconv.Itoa(proc.ID())
}

// end is the cleanup.
func (s *Server) end() {
	_ = s.client.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.Kill()
	s.claim.Release()
}

// infoField reads one field of an answer to INFO or CLUSTER INFO.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// pollEvery is the interval of polls.
const pollEvery = 3 * time.Millisecond

// eventually waits until done reports true, and fails the test if it never does.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("redistest: waited %s in vain for %s", patience, what)
		}
		time.Sleep(pollEvery)
	}
}
