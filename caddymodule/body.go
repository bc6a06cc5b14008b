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

// bodyTimeout is the time for a body to arrive. A slow one would keep its connection
// open, and the process from stopping, before it has shown a credential.
const bodyTimeout = 30 * time.Second

var errBodyLate = &parse.RequestError{Status: http.StatusBadRequest, Text: "The request body did not arrive in time."}

var headerClose = []string{"close"}

// hasUnreadBody reports whether an HTTP/1 request has a body. net/http reads the rest
// of a body before it sends the answer, so a client that expects 100-continue would
// wait for ever. It does not if the answer closes the connection; so answers say that
// until the body has been read.
func hasUnreadBody(r *http.Request) bool { return r.ProtoMajor == 1 && r.ContentLength != 0 }

// expectsContinue reports whether the client waits for 100 Continue before it sends the
// body (RFC 9110 §10.1.1).
func expectsContinue(r *http.Request) bool {
	return hasUnreadBody(r) && r.ProtoAtLeast(1, 1) && httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue")
}

// announcesBody reports whether the headers promise a body that is not empty. Expect is
// only for those.
func announcesBody(r *http.Request) bool { return r.ContentLength > 0 || expectsContinue(r) }

// skipUnreadBody stops net/http from waiting for the rest of the body.
func skipUnreadBody(w http.ResponseWriter) {
	if _, unread := w.Header()["Connection"]; unread {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now())
	}
}

// readBody reads a body of at most limit bytes. Errors are *parse.RequestError with
// status 413 or 400, errBodyLate after bodyTimeout, and context.Canceled if the client
// disconnects.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if err := checkLength(r, limit); err != nil {
		return nil, err
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout)) // connections in tests may not support it
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, errBodyLate
		}
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, errBodyTooLarge(limit)
		}
		if clientDisconnected(r, err) {
			return nil, context.Canceled
		}
		return nil, &parse.RequestError{Status: http.StatusBadRequest, Text: "The request body could not be read."}
	}
	_ = conn.SetReadDeadline(time.Time{})
	delete(w.Header(), "Connection")
	return body, nil
}

// checkLength refuses a body whose Content-Length is over the limit.
func checkLength(r *http.Request, limit int64) error {
	if r.ContentLength > limit {
		return errBodyTooLarge(limit)
	}
	return nil
}

// clientDisconnected reports whether reading failed because the client disconnected,
// and not for bad framing.
func clientDisconnected(r *http.Request, err error) bool {
	if r.ProtoMajor > 1 {
		// Only a body that differs from its declared length leaves a client to answer.
		// net/http has no type for that error.
		return !strings.HasPrefix(err.Error(), "request declared a Content-Length")
	}
	_, lost := errors.AsType[net.Error](err)
	return lost || errors.Is(err, io.ErrUnexpectedEOF) || r.Context().Err() != nil
}

func errBodyTooLarge(limit int64) error {
	return &parse.RequestError{Status: http.StatusRequestEntityTooLarge, Text: fmt.Sprintf("The request body must not be larger than %d bytes.", limit)}
}
