// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

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

// leaveBody does not wait for what is left of the body after the answer.
func leaveBody(w http.ResponseWriter) {
	if _, unread := w.Header()["Connection"]; unread {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now())
	}
}

// readBody reads a whole body of at most limit bytes. Beyond it the error is a
// parse.RequestError 413, and errBodyLate if it does not arrive in time.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, errBodyTooLarge(limit)
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
		return nil, &parse.RequestError{Status: http.StatusBadRequest, Text: "The request body could not be read."}
	}
	_ = conn.SetReadDeadline(time.Time{})
	delete(w.Header(), "Connection")
	return body, nil
}

func errBodyTooLarge(limit int64) error {
	return &parse.RequestError{Status: http.StatusRequestEntityTooLarge, Text: fmt.Sprintf("The request body must not be larger than %d bytes.", limit)}
}
