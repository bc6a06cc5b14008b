// SPDX-License-Identifier: MIT

package child

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Ports are below the range of source ports of outgoing connections, so that a server can be
// restarted on its port. The bus of a cluster node is busOffset above its port.
const (
	firstPort = 12000
	lastPort  = 21999
	busOffset = 10000
)

// PortClaim reserves a port and its bus port for one server, also while it does not listen.
// Other test binaries respect it.
type PortClaim struct {
	Port int
	lock *os.File
}

// ClaimPort claims a port on which nothing listens.
func ClaimPort() (*PortClaim, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("test-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of port claims: %w", err)
	}
	for range 500 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		lock, err := lockFile(filepath.Join(dir, strconv.Itoa(port)))
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("claiming port %d: %w", port, err)
		}
		if free(port) && free(port+busOffset) {
			return &PortClaim{Port: port, lock: lock}, nil
		}
		_ = lock.Close()
	}
	return nil, fmt.Errorf("no free port between %d and %d", firstPort, lastPort)
}

// Release ends the claim. So does the end of the process.
func (c *PortClaim) Release() { _ = c.lock.Close() }

// Addr is host:port on loopback.
func (c *PortClaim) Addr() string { return loopback(c.Port) }

func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func free(port int) bool {
	l, err := net.Listen("tcp4", loopback(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
