// SPDX-License-Identifier: MIT

//go:build !linux

package main

import (
	"errors"
	"time"
)

func cpuTime(int) (time.Duration, error) {
	return 0, errors.New("CPU time of other processes is read on Linux only")
}
