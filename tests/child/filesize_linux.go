// SPDX-License-Identifier: MIT

package child

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// NoLimit is no limit for [Process.LimitFileSize].
const NoLimit = math.MaxUint64

// LimitFileSize bounds the files that the child writes. Further writes fail, as on a full
// disk.
func (p *Process) LimitFileSize(bytes uint64) error {
	limit := unix.Rlimit{Cur: bytes, Max: NoLimit}
	if err := unix.Prlimit(p.handle.Pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		return fmt.Errorf("limiting the size of files: %w", err)
	}
	return nil
}
