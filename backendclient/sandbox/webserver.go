// SPDX-License-Identifier: MIT

package sandbox

import (
	"errors"
	"html"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// The behaviour of gunicorn, the web server in front of Django.

// maxBody bounds what the sandbox reads of a request. Meet itself has no limit
// for JSON; the recording goes to 3 MB.
const maxBody = 8 << 20

var errBodyTooLarge = errors.New("request body too large")

// readBody reads the body, even if the application ignores it for lack of a Content-Length.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err == nil && len(b) > maxBody {
		return nil, errBodyTooLarge
	}
	return b, err
}

// The limits of the web server, gunicorn, in bytes.
const (
	maxRequestLine = 4094
	maxHeaderField = 8190
)

// refuseBroken returns the web server's refusal of a request, or nil.
func refuseBroken(r *http.Request) *answer {
	line := len(r.Method) + len(r.RequestURI) + len("  HTTP/1.1\r\n")
	if line > maxRequestLine {
		// The text has the size that was read so far.
		return serverPage(http.StatusBadRequest, "Request Line is too large (8192 > "+strconv.Itoa(maxRequestLine)+")")
	}
	if r.Method != strings.ToUpper(r.Method) {
		return serverPage(http.StatusBadRequest, "Invalid Method 'Invalid HTTP method: '"+r.Method+"''")
	}
	for name, values := range r.Header {
		for _, v := range values {
			if len(name)+len(": ")+len(v) > maxHeaderField {
				return serverPage(http.StatusRequestHeaderFieldsTooLarge, "Error parsing headers: 'limit request headers fields size'")
			}
		}
	}
	if len(r.Header.Values("Content-Type")) > 1 {
		return serverPage(http.StatusBadRequest, "Invalid HTTP Header: 'CONTENT-TYPE'")
	}
	return nil
}

func serverPage(status int, message string) *answer {
	title := http.StatusText(status)
	message = strings.ReplaceAll(html.EscapeString(message), "&#39;", "&#x27;")
	return &answer{
		status: status,
		server: true,
		header: http.Header{"Content-Type": {"text/html"}},
		body: []byte("<html>\n  <head>\n    <title>" + title + "</title>\n  </head>\n  <body>\n    <h1><p>" + title +
			"</p></h1>\n    " + message + "\n  </body>\n</html>\n"),
	}
}
