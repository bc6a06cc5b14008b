// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// answers are the errors that Redis answers, by their first words after "ERR", and their
// kinds, of [CommandProblems].
var answers = []struct{ prefix, problem string }{
	{"NOSCRIPT", ""}, // go-redis then sends the source
	{"OOM", "oom"},
	{"MISCONF", "misconf"},
	{"READONLY", "readonly"},
	{"MASTERDOWN", "readonly"},
	{"LOADING", "loading"},
	{"CLUSTERDOWN", "clusterdown"},
	{"MOVED", "moved"},
	{"ASK", "moved"},
	{"TRYAGAIN", "moved"},
	{"NOPERM", "noperm"},
	{"The user executing the script", "noperm"},
	{"ACL failure", "noperm"},
	{"NOAUTH", "noauth"},
	{"WRONGPASS", "noauth"},
	{"NOREPLICAS", "noreplicas"},
	{"BUSY", "other"},
	{"DENIED", "other"},
	{"max number of clients", "other"},
	{"invalid password", "other"},
	{"AUTH", "other"},
	{"Client sent AUTH", "other"},
	{"unknown command", "other"},
	{"DB index", "other"},
	{"SELECT", "other"},
}

// CommandProblems are the kinds of failures of a command, for a metric label: what Redis
// answers (the first word of its error in lower case), what the network does, and `other`.
var CommandProblems = []string{
	"timeout", "connection", "canceled", "oom", "misconf", "readonly", "loading", "clusterdown", "moved", "noperm", "noauth", "noreplicas", "other",
}

// commandProblem returns the kind of an error. A missing key, or a script that is not
// loaded yet, is not a failure.
func commandProblem(err error) string {
	if err == nil || IsNil(err) {
		return ""
	}
	if problem, known := answerProblem(err); known {
		return problem
	}
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &network) && network.Timeout(), errors.Is(err, redis.ErrPoolTimeout):
		return "timeout"
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, ErrNoSentinel), errors.Is(err, ErrNotPrimary):
		return "connection"
	}
	return "other"
}

func answerProblem(err error) (problem string, known bool) {
	for _, a := range answers {
		if redis.HasErrorPrefix(err, a.prefix) {
			return a.problem, true
		}
	}
	return "", false
}

// ProblemElsewhere is what [Problem] says of a node of a Cluster that does not have the key. A
// store without the option cluster does not follow to the node that has it.
const ProblemElsewhere = "redis answers that another node of its Cluster has the key: the block of store redis needs cluster, if that is missing (docs/redis.md has an example)"

// maxQuoted bounds what is quoted of an answer of Redis.
const maxQuoted = 200

// Problem says what is wrong with Redis, in a sentence. It names the server if there are several,
// with host and port alone. It quotes what Redis refuses, so that the operator sees which command
// or key its user lacks.
func Problem(err error) string {
	switch {
	case errors.Is(err, ErrNotPrimary):
		return "redis answers, and is a replica"
	case errors.Is(err, ErrUndecided):
		return "the sentinels contradict each other"
	case errors.Is(err, ErrUnfollowed):
		return "most sentinels do not answer, and a replica that they knew is missing"
	}
	if l, ok := errors.AsType[*lackError](err); ok {
		return "redis refuses: " + l.Error() + " (docs/redis.md has the line for ACL SETUSER)"
	}
	if problem, _ := answerProblem(err); problem == "moved" {
		return ProblemElsewhere
	}
	who := "redis"
	if s, ok := errors.AsType[*serverError](err); ok {
		who = redisAt(s.server)
	}
	if answer := quotable(err); answer != "" {
		return who + " refuses: " + answer
	}
	if cause := connectionProblem(err); cause != "" {
		return who + " does not answer: " + cause
	}
	return who + " does not answer"
}

// quotable returns the printable text of a known error of Redis, "" for another error.
// Known errors name a command, a key or a setting, and never a password; those of a
// Cluster that name an address are left out.
func quotable(err error) string {
	if problem, known := answerProblem(err); !known || problem == "" || problem == "moved" {
		return ""
	}
	answer, _ := errors.AsType[redis.Error](err)
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, answer.Error())
	return text[:min(len(text), maxQuoted)]
}

// connectionProblem names the usual causes of a failed connection. The errors of package
// net are not quoted, since they hold addresses of this machine too.
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

// IsReadOnly reports whether Redis refused a write because it is a replica.
func IsReadOnly(err error) bool { return redis.HasErrorPrefix(err, "READONLY") }

// IsForbidden reports whether Redis refuses its user: retrying does not help.
func IsForbidden(err error) bool {
	if _, lacks := errors.AsType[*lackError](err); lacks {
		return true
	}
	problem, _ := answerProblem(err)
	return problem == "noperm" || problem == "noauth"
}
