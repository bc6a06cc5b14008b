// SPDX-License-Identifier: MIT

// Package child runs other programs for tests, on loopback ports that it claims for them. A
// child ends with the test binary. Test packages may run in parallel.
package child
