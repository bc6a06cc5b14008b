// SPDX-License-Identifier: MIT

// Package parse reads what a client sends: request targets, queries, headers, forms
// and JSON. Each function has one strict grammar and no side effect. Input that two
// readers could understand differently is an error.
package parse
