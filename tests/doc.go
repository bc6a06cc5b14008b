// SPDX-License-Identifier: MIT

// Package tests holds the black-box tests of the gateway: over HTTP, by its commands and by
// the exported names of its packages. It also checks the rules of the repository, such as
// imports and consistent build files.
package tests
