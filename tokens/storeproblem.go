// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
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

// StoreProblem says what is wrong with Redis, given an error of this package, in a
// sentence without an address: "" means nothing is. What Redis refuses is quoted,
// so that the operator sees which command or key its user lacks.
func StoreProblem(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, redisdb.ErrNotPrimary):
		return "redis answers, and is a replica"
	case errors.Is(err, redisdb.ErrUndecided):
		return "the sentinels contradict each other"
	case errors.Is(err, redisdb.ErrUnfollowed):
		return "most sentinels do not answer, and a replica that they knew is missing"
	case errors.Is(err, feed.ErrUnproven):
		return "redis answers, and has taken no writes for too long"
	case errors.Is(err, errMissingKey):
		return "other gateways use keys that this one was not given"
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

// isForbidden reports whether Redis refuses because of who asks, not of what it is
// doing: trying again does not help.
func isForbidden(err error) bool {
	for _, code := range []string{"NOPERM", "WRONGPASS", "NOAUTH", "The user executing the script", "ACL failure"} {
		if redis.HasErrorPrefix(err, code) {
			return true
		}
	}
	return false
}

// forbidden returns why the last heartbeat failed, if the Redis user may not do
// what it does. Then writes fail as well.
func (a *Authority) forbidden(ctx context.Context) error {
	failed, _ := a.feed.Failures()
	if failed == nil || !isForbidden(failed) {
		return nil
	}
	return unavailable("sending a heartbeat", a.explained(ctx, failed))
}

// explained adds to a refusal of Redis what its user lacks: what Redis says of a
// script names neither the command nor the key.
func (a *Authority) explained(ctx context.Context, err error) error {
	if !isForbidden(err) {
		return err
	}
	if p, failed := a.store.Permissions(ctx); failed == nil && !p.OK() {
		return &lacking{p, err}
	}
	return err
}

// FeedProblem says why this node hears nothing from Redis, as [StoreProblem] does;
// "" while it hears, and while nothing failed.
func (a *Authority) FeedProblem(ctx context.Context) string {
	if a.feed.Fresh() {
		return ""
	}
	beat, listen := a.feed.Failures()
	return StoreProblem(a.explained(ctx, cmp.Or(beat, listen)))
}
