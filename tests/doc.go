// SPDX-License-Identifier: MIT

// Package tests tests the gateway from outside: through HTTP, its commands, and the
// exported names of its packages. It also checks the rules of the repository, such as
// imports and consistent build files.
package tests
