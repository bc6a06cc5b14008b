// SPDX-License-Identifier: MIT

package caddymodule

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
)

func TestReadBody_Limit(t *testing.T) {
	for _, length := range []int64{-1, 9, 9000} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("a", 9)))
		r.ContentLength = length
		_, err := readBody(httptest.NewRecorder(), r, 8)
		require.Equal(t, errBodyTooLarge(8), err)
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("12345678"))
	body, err := readBody(httptest.NewRecorder(), r, 8)
	require.NoError(t, err)
	require.Equal(t, "12345678", string(body))

	r = httptest.NewRequest(http.MethodPost, "/", errReader{})
	_, err = readBody(httptest.NewRecorder(), r, 8)
	require.Equal(t, &parse.RequestError{Status: 400, Text: "The request body could not be read."}, err)
}

// Without a timeout, a slow or stalled body would hold its connection for days before any
// credential is checked (slowloris).
func TestReadBody_Timeout(t *testing.T) {
	for name, tc := range map[string]struct {
		every time.Duration
		want  string
	}{
		"trickles": {time.Second, "late"},
		"stalls":   {time.Hour, "late"},
		"slow":     {bodyTimeout / 12, "10 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				listener := &pipeListener{conns: make(chan net.Conn, 1)}
				listener.conns <- server
				s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, err := readBody(w, r, defaultMaxTokenBody)
					if errors.Is(err, errBodyLate) {
						_, _ = io.WriteString(w, "late")
						return
					}
					_, _ = io.WriteString(w, "10 bytes")
				})}
				go func() { _ = s.Serve(listener) }()
				length := 10
				if tc.want == "late" {
					length = 1000
				}
				go func() {
					_, _ = io.WriteString(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: "+strconv.Itoa(length)+"\r\n\r\n")
					for range length {
						time.Sleep(tc.every)
						if _, err := client.Write([]byte("x")); err != nil {
							return
						}
					}
				}()
				began := time.Now()
				res, err := http.ReadResponse(bufio.NewReader(client), nil)
				require.NoError(t, err)
				body, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				require.Equal(t, tc.want, string(body))
				require.LessOrEqual(t, time.Since(began), bodyTimeout+time.Second)
				require.NoError(t, client.Close())
				require.NoError(t, s.Close())
				time.Sleep(2 * time.Hour) // the writer ends
			})
		})
	}
}

// pipeListener accepts one connection.
type pipeListener struct{ conns chan net.Conn }

func (l *pipeListener) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *pipeListener) Close() error {
	close(l.conns)
	return nil
}

func (*pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }
