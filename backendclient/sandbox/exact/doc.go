// SPDX-License-Identifier: MIT

// Package exact makes a sandbox read JSON as Python does: its texts on a body that it
// cannot read, the last of two equal keys, half a surrogate pair. Tests that compare
// the sandbox with recorded exchanges of Meet need it; the gateway does not.
package exact
