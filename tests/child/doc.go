// SPDX-License-Identifier: MIT

// Package child runs other programs for tests, on loopback ports of their own.
//
// A child ends with the test binary, however that ends. A port that was claimed
// stays claimed while its child is stopped for a while, and any number of test
// packages may run side by side.
package child
