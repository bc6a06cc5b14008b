// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// h2load sends the first request of a load over HTTP/2, which wrk does not support.
func h2load(ctx context.Context, l *load, d time.Duration, address string) (sent, error) {
	r := l.requests[0]
	ctx, cancel := context.WithTimeout(ctx, d+30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "h2load",
		"-D", strconv.FormatFloat(d.Seconds(), 'f', 0, 64), "-c", strconv.Itoa(max(l.connections/4, 1)), "-m", "4", "-t", "1",
		"-H", "authorization: "+r.authorization, "-H", "accept: */*", "-H", "user-agent: python-requests/2.32.3",
		"https://"+address+r.path).CombinedOutput()
	if err != nil {
		return sent{}, fmt.Errorf("h2load: %w\n%s", err, out)
	}
	return parseH2load(out, d)
}

var (
	h2Requests = regexp.MustCompile(`(?m)^requests: (\d+) total, \d+ started, (\d+) done, \d+ succeeded, \d+ failed, (\d+) errored`)
	h2Statuses = regexp.MustCompile(`(?m)^status codes: \d+ 2xx, \d+ 3xx, (\d+) 4xx, (\d+) 5xx`)
	h2Protocol = regexp.MustCompile(`(?m)^Application protocol: h2$`)
)

// parseH2load reads the summary that h2load prints at the end.
func parseH2load(out []byte, d time.Duration) (sent, error) {
	requests, statuses := h2Requests.FindSubmatch(out), h2Statuses.FindSubmatch(out)
	if requests == nil || statuses == nil || !h2Protocol.Match(out) {
		return sent{}, fmt.Errorf("h2load did not speak HTTP/2 or printed no summary\n%s", out)
	}
	var numbers [4]int64
	for i, text := range [][]byte{requests[2], requests[3], statuses[1], statuses[2]} {
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return sent{}, fmt.Errorf("reading what h2load printed: %w", err)
		}
		numbers[i] = n
	}
	if numbers[0] == 0 {
		return sent{}, errors.New("h2load got no answer")
	}
	return sent{Requests: numbers[0], Microseconds: d.Microseconds(), Broken: numbers[1], Refused: numbers[2] + numbers[3]}, nil
}
