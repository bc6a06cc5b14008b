// SPDX-License-Identifier: MIT

// Package parse parses what clients send: request targets, queries, headers, forms and
// JSON. Each function has one strict grammar and no side effects. Input that two
// parsers could understand differently is an error.
package parse
