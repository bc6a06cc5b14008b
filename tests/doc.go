// SPDX-License-Identifier: MIT

// Package tests looks at the gateway from outside: through HTTP, its commands
// and the exported names of its packages. It holds also the repository to its
// own rules: who imports whom, and that its build files agree.
package tests
