// SPDX-License-Identifier: MIT

//go:build !linux

package main

// releaseStartPages does nothing: only Linux is asked to release pages.
func releaseStartPages() {}
