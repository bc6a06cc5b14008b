// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// maxProblem bounds what is shown of an answer of Redis.
const maxProblem = 200

// refusals are the answers of Redis, by their first word, that are shown as they
// are: they name a command, a key or a setting, and never a password.
var refusals = []string{
	"NOPERM", "WRONGPASS", "NOAUTH", "MISCONF", "OOM", "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN",
	"NOREPLICAS", "BUSY", "ERR max number of clients", "ERR invalid password", "ERR AUTH", "ERR Client sent AUTH",
	"ERR unknown command", "ERR The user executing the script", "ERR ACL failure", "ERR DB index", "ERR SELECT", "DENIED",
}

// Problem says what is wrong with Redis, in a sentence without an address. What Redis
// refuses is quoted, so that the operator sees which command or key its user lacks.
func Problem(err error) string {
	switch {
	case errors.Is(err, ErrNotPrimary):
		return "redis answers, and is a replica"
	case errors.Is(err, ErrUndecided):
		return "the sentinels contradict each other"
	case errors.Is(err, ErrUnfollowed):
		return "most sentinels do not answer, and a replica that they knew is missing"
	}
	if l, ok := errors.AsType[*lacking](err); ok {
		return "redis refuses: " + l.Error() + " (docs/redis.md has the line for ACL SETUSER)"
	}
	if answer := redisRefusal(err); answer != "" {
		return "redis refuses: " + answer
	}
	if cause := connectionProblem(err); cause != "" {
		return "redis does not answer: " + cause
	}
	return "redis does not answer"
}

// IsReadOnly reports whether Redis refused a write because it is a replica.
func IsReadOnly(err error) bool { return strings.HasPrefix(redisRefusal(err), "READONLY") }

// redisRefusal returns what Redis answered, if it is one of refusals.
func redisRefusal(err error) string {
	answer, ok := errors.AsType[redis.Error](err)
	if !ok {
		return ""
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, answer.Error())
	for _, known := range refusals {
		if strings.HasPrefix(text, known) {
			return text[:min(len(text), maxProblem)]
		}
	}
	return ""
}

// connectionProblem names the usual causes of a connection that fails. The words
// of package net hold the address.
func connectionProblem(err error) string {
	var timeout net.Error
	_, unknownAuthority := errors.AsType[x509.UnknownAuthorityError](err)
	_, wrongName := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	_, noName := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case unknownAuthority:
		return "its certificate is signed by an unknown authority"
	case wrongName:
		return "its certificate is for another name"
	case invalid:
		return "its certificate is not valid"
	case noName:
		return "its name is not found"
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return "its socket cannot be opened"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	}
	return ""
}

// IsForbidden reports whether Redis refuses because of who asks, not of what it is
// doing: trying again does not help.
func IsForbidden(err error) bool {
	if _, lacks := errors.AsType[*lacking](err); lacks {
		return true
	}
	for _, code := range []string{"NOPERM", "WRONGPASS", "NOAUTH", "The user executing the script", "ACL failure"} {
		if redis.HasErrorPrefix(err, code) {
			return true
		}
	}
	return false
}

// Explained adds to a refusal of Redis what its user lacks: what Redis says of a
// script names neither the command nor the key.
func (s *DB) Explained(ctx context.Context, err error) error {
	if !IsForbidden(err) {
		return err
	}
	if p, failed := s.Permissions(ctx); failed == nil && !p.OK() {
		return &lacking{permissions: p, err: err}
	}
	return err
}
