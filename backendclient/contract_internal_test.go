// SPDX-License-Identifier: MIT

package backendclient

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorded is the part of a recorded line that this test needs.
type recorded struct {
	ID      string
	Request struct{ Method, Path string }

	Response struct {
		Status  int
		Headers map[string]any
		Body    json.RawMessage
	}
}

// reply returns the recorded answer as roundTrip would. The recording holds an HTML body as a
// JSON string.
func (r recorded) reply() *reply {
	header := http.Header{}
	for name, value := range r.Response.Headers {
		if s, ok := value.(string); ok {
			header.Set(name, s)
		}
	}
	a := &reply{status: r.Response.Status, location: single(header, "Location")}
	if isJSON(header.Get("Content-Type")) {
		a.json = true
		if string(r.Response.Body) != `""` {
			a.body = r.Response.Body
		}
	}
	return a
}

// The client judges every answer that was recorded from a real Meet on the paths it uses. A
// relayed answer is JSON and has no status 301, 401 or 500. Every other answer is an error of
// a known kind.
func TestJudge_RecordedAnswers(t *testing.T) {
	t.Parallel()
	f, err := os.Open("sandbox/testdata/meet-backend.jsonl")
	require.NoError(t, err)
	defer f.Close()

	judged := map[string]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r recorded
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		path, _, _ := strings.Cut(r.Request.Path, "?")
		below, ok := strings.CutPrefix(path, defaultBasePath)
		a := r.reply()
		switch {
		case !ok:
		case below == tokenPath && r.Request.Method == http.MethodPost:
			judged["exchange"]++
			switch {
			case a.status == http.StatusBadRequest && !a.json:
				// The client sends another request, see explainHTML.
			case a.status == http.StatusOK:
				require.Nil(t, judgeExchange(a, path), r.ID)
			default:
				e := judgeExchange(a, path)
				require.NotNil(t, e, r.ID)
				require.NotEqual(t, "other", Reason(e), r.ID)
				require.False(t, errors.Is(e.Kind, ErrBadAnswer) && a.json, "%s: Meet's own answers are known", r.ID)
			}
		case strings.HasPrefix(below, roomsPath):
			judged["rooms"]++
			v, e := judgeRooms(a, wireRequest{method: r.Request.Method, path: path, below: below})
			if v != relay {
				require.NotNil(t, e, r.ID)
				require.False(t, errors.Is(e.Kind, ErrBadAnswer) && a.json, "%s: Meet's own answers are known", r.ID)
				continue
			}
			require.True(t, a.json, r.ID)
			require.NotContains(t, []int{301, 401, 500}, a.status, r.ID)
		}
	}
	require.NoError(t, lines.Err())
	require.Greater(t, judged["exchange"], 150)
	require.Greater(t, judged["rooms"], 350)
}
