// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
)

// bodyTime bounds how long a body may take to arrive. One that stalls or trickles
// would hold its connection, and the end of the process, before anybody has shown a
// credential.
const bodyTime = 30 * time.Second

var errBodyLate = &parse.RequestError{Status: http.StatusBadRequest, Text: "The request body did not arrive in time."}

// headerClose ends the connection after the answer.
var headerClose = []string{"close"}

// hasUnreadBody reports whether an HTTP/1 request comes with a body. net/http reads
// what is left of one before it sends an answer, so a client that waits for the
// answer (Expect: 100-continue) would get none. It does not if the connection ends
// with the answer, which is what such an answer says until the body was read.
func hasUnreadBody(r *http.Request) bool { return r.ProtoMajor == 1 && r.ContentLength != 0 }

// waitsForLeave reports whether the client sends its body only after it was told to
// (RFC 9110 §10.1.1). What the headers decide is decided before that.
func waitsForLeave(r *http.Request) bool {
	return hasUnreadBody(r) && r.ProtoAtLeast(1, 1) && httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue")
}

// announcesContent reports whether the headers say that the body is not empty: by its
// length, or by waiting for leave, which is for content alone.
func announcesContent(r *http.Request) bool { return r.ContentLength > 0 || waitsForLeave(r) }

// leaveBody does not wait for what is left of the body after the answer.
func leaveBody(w http.ResponseWriter) {
	if _, unread := w.Header()["Connection"]; unread {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now())
	}
}

// readBody reads a whole body of at most limit bytes. Beyond it the error is a
// parse.RequestError 413, errBodyLate if it does not arrive in time, and
// context.Canceled if the client goes away before its end.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if err := checkLength(r, limit); err != nil {
		return nil, err
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(bodyTime)) // a test's connection may have none
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, errBodyLate
		}
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, errBodyTooLarge(limit)
		}
		if hungUp(r, err) {
			return nil, context.Canceled
		}
		return nil, &parse.RequestError{Status: http.StatusBadRequest, Text: "The request body could not be read."}
	}
	_ = conn.SetReadDeadline(time.Time{})
	delete(w.Header(), "Connection")
	return body, nil
}

// checkLength refuses a body that says itself that it is too large.
func checkLength(r *http.Request, limit int64) error {
	if r.ContentLength > limit {
		return errBodyTooLarge(limit)
	}
	return nil
}

// hungUp reports whether a body ended because its client went away. What else can be
// wrong with one is its framing.
func hungUp(r *http.Request, err error) bool {
	if r.ProtoMajor > 1 {
		// Its client has reset the stream, or closed the connection: only a length that is
		// not kept leaves somebody to answer. net/http has no type for that error.
		return !strings.HasPrefix(err.Error(), "request declared a Content-Length")
	}
	_, lost := errors.AsType[net.Error](err)
	return lost || errors.Is(err, io.ErrUnexpectedEOF) || r.Context().Err() != nil
}

func errBodyTooLarge(limit int64) error {
	return &parse.RequestError{Status: http.StatusRequestEntityTooLarge, Text: fmt.Sprintf("The request body must not be larger than %d bytes.", limit)}
}
