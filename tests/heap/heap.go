// SPDX-License-Identifier: MIT

// Package heap measures memory in tests.
package heap

import "runtime"

// InUse returns the bytes of the heap that are in use after a collection.
func InUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // frees what finalizers and pools held
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
