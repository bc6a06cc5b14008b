// SPDX-License-Identifier: MIT

package parse

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRequestID(t *testing.T) {
	for _, valid := range []string{"a", "6f1e.2-B_c", strings.Repeat("a", 64)} {
		require.Equal(t, valid, RequestID(http.Header{"X-Request-Id": {valid}}))
	}
	for _, values := range [][]string{nil, {""}, {"a b"}, {"a\r\nX: 1"}, {"é"}, {`a"b`}, {"{env.HOME}"}, {strings.Repeat("a", 65)}, {"a", "b"}} {
		got := RequestID(http.Header{"X-Request-Id": values})
		require.Regexp(t, "^[0-9a-f]{32}$", got)
	}
}
