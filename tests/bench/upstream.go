// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Names of the recorded exchanges with a real Meet that the upstream answers with.
const (
	recordedRoom   = "retrieve-own"
	recordedList   = "list-page-" // + 1, 2, 3
	recordedCreate = "create-empty-object"
)

// roomID is the room of recordedRoom.
const roomID = "5eed0000-0000-4000-8000-000000000001"

// meetToken is the upstream's answer to every exchange. It is as long as Meet's own.
const meetToken = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJsYXN1aXRlLW1lZXQiLCJhdWQiOiJtZWV0LWNsaWVudHMiLCJ1c2VyX2lkIjoiYTExY2UwMDAtMDAwMC00MDAwLTgwMDAtMDAwMDAwMDAwMDBhIiwiY2xpZW50X2lkIjoiZ2F0ZXdheSIsInNjb3BlIjoicm9vbXM6bGlzdCByb29tczpyZXRyaWV2ZSByb29tczpjcmVhdGUiLCJkZWxlZ2F0ZWQiOnRydWUsImlhdCI6MTc2MDAwMDAwMCwiZXhwIjo0MTAwMDAwMDAwfQ.x4t0Jk7n0gq0C8mHc0Cq3bJt5bq0u3m9Qp4Rz2v1wYk"

// recorded is one recorded answer.
type recorded struct {
	ID       string `json:"id"`
	Response struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    json.RawMessage   `json:"body"`
	} `json:"response"`
}

// readRecording returns the recorded answers with the given names.
func readRecording(top string, names ...string) (map[string]recorded, error) {
	f, err := os.Open(filepath.Join(top, "backendclient/sandbox/testdata/meet-backend.jsonl"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := map[string]recorded{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		for _, name := range names {
			if !bytes.HasPrefix(lines.Bytes(), []byte(`{"id":"`+name+`",`)) {
				continue
			}
			var r recorded
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				return nil, fmt.Errorf("reading the recording: %w", err)
			}
			found[name] = r
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, ok := found[name]; !ok {
			return nil, fmt.Errorf("the recording has no exchange %q", name)
		}
	}
	return found, nil
}

// placeholder matches the recording's placeholders for values that vary.
var placeholder = regexp.MustCompile(`<[a-z]+(:[^>]*)?>`)

// plain replaces placeholders by values of about the right length.
func plain(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(p string) string {
		if p == "<uuid>" {
			return roomID
		}
		return "abc-defg-hij"
	})
}

// nginxAnswer returns the body of an nginx location that sends a recorded answer with Meet's
// headers.
func nginxAnswer(r recorded) (string, error) {
	var body bytes.Buffer
	if err := json.Compact(&body, r.Response.Body); err != nil {
		return "", fmt.Errorf("%s: %w", r.ID, err)
	}
	var b strings.Builder
	b.WriteString("default_type application/json;\n")
	for _, name := range []string{"Allow", "Vary", "Content-Language", "Location"} {
		if v := r.Response.Headers[name]; v != "" {
			fmt.Fprintf(&b, "add_header %s %q always;\n", name, plain(v))
		}
	}
	// nginx accepts words of at most 4096 bytes.
	var words strings.Builder
	for i, part := range slices.Collect(slices.Chunk([]byte(plain(body.String())), 3000)) {
		fmt.Fprintf(&b, "set $part%d '%s';\n", i, bytes.ReplaceAll(part, []byte(`'`), []byte(`\'`)))
		fmt.Fprintf(&words, "$part%d", i)
	}
	fmt.Fprintf(&b, "return %d %q;\n", r.Response.Status, words.String())
	return b.String(), nil
}

// upstream is nginx with recorded answers of Meet. It uses little CPU, which it shares with the
// measured processes.
type upstream struct {
	*process
	address string
	control string
}

func startUpstream(ctx context.Context, l *lab) (*upstream, error) {
	names := []string{recordedRoom, recordedCreate, recordedList + "1", recordedList + "2", recordedList + "3"}
	answers, err := readRecording(l.top, names...)
	if err != nil {
		return nil, err
	}
	inside := make([]any, len(names))
	for i, name := range names {
		if inside[i], err = nginxAnswer(answers[name]); err != nil {
			return nil, err
		}
	}
	u := new(upstream)
	if u.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if u.control, err = freeAddress(); err != nil {
		return nil, err
	}
	const base = "/external-api/v1.0"
	locations := fmt.Sprintf(`
	location `+base+`/rooms/ { %s }
	location = /created { internal; %s }
	location = `+base+`/rooms/ {
		if ($request_method = POST) { rewrite ^ /created last; }
		if ($arg_page = 2) { rewrite ^ /page-2 last; }
		if ($arg_page = 3) { rewrite ^ /page-3 last; }
		%s
	}
	location = /page-2 { internal; %s }
	location = /page-3 { internal; %s }
`, inside...)
	config := fmt.Sprintf(`
server {
	listen %s backlog=4096;
	keepalive_requests 1000000000;
	add_header X-Content-Type-Options nosniff always;
	%s
	location = `+base+`/application/token/ {
		default_type application/json;
		return 200 '{"access_token":"%s","token_type":"Bearer","expires_in":36000,"scope":"rooms:list rooms:retrieve rooms:create"}';
	}
}
server { listen %s; location / { stub_status; } }
`, u.address, locations, meetToken, u.control)
	if u.process, err = startNginx(ctx, l, "upstream", config, u.address); err != nil {
		return nil, err
	}
	return u, nil
}

// startNginx runs nginx with the given server blocks, one worker and no log.
func startNginx(ctx context.Context, l *lab, name, servers, address string) (*process, error) {
	dir := filepath.Join(l.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "nginx.conf")
	config := fmt.Sprintf(`
daemon off;
user root;
worker_processes 1;
pid %[1]s/pid;
error_log stderr error;
events { worker_connections 8192; }
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	%[2]s
}
`, dir, servers)
	if os.Getuid() != 0 {
		config = strings.Replace(config, "user root;\n", "", 1)
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	p, err := l.start(name, nil, "nginx", "-p", dir, "-c", file)
	if err != nil {
		return nil, err
	}
	return p, p.listening(ctx, address)
}

// seen returns the number of answered requests, including this one.
func (u *upstream) seen(ctx context.Context) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+u.control, http.NoBody)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	// "server accepts handled requests\n 16 16 31070"
	_, rest, _ := strings.Cut(string(text), "requests")
	fields := strings.Fields(rest)
	if len(fields) < 3 {
		return 0, fmt.Errorf("unexpected status of nginx: %q", text)
	}
	return strconv.ParseInt(fields[2], 10, 64)
}
