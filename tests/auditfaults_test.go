// SPDX-License-Identifier: MIT

//go:build linux

package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
	"github.com/meet-gateway/meet-gateway/tests/child"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// auditCommand runs `meet audit` without a gateway and returns its output and exit
// status.
func auditCommand(t *testing.T, args ...string) (output string, status int) {
	t.Helper()
	program, err := binary()
	require.NoError(t, err)
	cmd := exec.Command(program, append([]string{"meet", "audit"}, args...)...)
	cmd.Env = append(os.Environ(), "CADDY_ADMIN=127.0.0.1:1") // no server listens there
	out, err := cmd.CombinedOutput()
	if _, failed := err.(*exec.ExitError); !failed { //nolint:errorlint // Run does not wrap it
		require.NoError(t, err, string(out))
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// requireIntact checks a trail, including its keyed heads, with the command.
func requireIntact(t *testing.T, secret string, files ...string) (output string) {
	t.Helper()
	output, status := auditCommand(t, append([]string{"verify", "--secret-file", secretFile(t, secret)}, files...)...)
	require.Zero(t, status, output)
	require.Contains(t, output, "nothing is wrong")
	return output
}

// linesByRequest returns the events of a trail, by request id.
func linesByRequest(t *testing.T, files ...string) map[string]audit.Event {
	t.Helper()
	lines := map[string]audit.Event{}
	unreadable, err := audit.Query(files, audit.Filter{}, func(l audit.Line) error {
		lines[l.RequestID] = l.Event
		return nil
	})
	require.NoError(t, err)
	require.Zero(t, unreadable)
	return lines
}

// The trail of a killed gateway has every answered request, because each line is handed to
// the operating system before the response is sent. The next start records the unclean end.
func TestAudit_Killed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	g := startWatched(t, "store embedded\nsecret "+auditSecret+"\nlimit token off\nlimit token_user off\naudit {\noutput file "+path+"\n}", "backend sandbox")
	id, secret := g.register("")
	var mu sync.Mutex
	var answered []string
	enough := make(chan struct{})
	var callers sync.WaitGroup
	for caller := range 4 {
		callers.Go(func() {
			for n := 0; ; n++ {
				body := gatewaytest.TokenBody(id, secret, fmt.Sprintf("user%d@example.org", caller))
				res, err := g.client.Post(g.url+"/external-api/v1.0/application/token", "application/json", strings.NewReader(body))
				if err != nil {
					return // killed
				}
				request := res.Header.Get("X-Request-Id")
				_ = res.Body.Close()
				mu.Lock()
				if answered = append(answered, request); len(answered) == 200 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	g.process.Kill()
	callers.Wait()

	output := requireIntact(t, auditSecret, path)
	require.Contains(t, output, "without being closed")
	lines := linesByRequest(t, path)
	for _, request := range answered {
		require.Equal(t, audit.TokenIssued, lines[request].Type, "an answered request is missing in the trail")
	}
	g.start()
	g.process.Terminate()
	output = requireIntact(t, auditSecret, path)
	require.Contains(t, output, "the gateway was killed after line ")
	require.NotContains(t, output, "without being closed")
}

// The chain continues over files that Caddy's log writer rotates, and a missing file is
// detected.
func TestAudit_RotatedBySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	g := gatewaytest.Start(t, gatewaytest.Config{
		Global: "store embedded\nsecret " + auditSecret + "\nlimit failed off\nlimit failed_source off\nlimit token off\n" +
			"audit {\noutput file " + path + " {\nroll_size 1MiB\nroll_uncompressed\n}\n}",
	})
	var files []string
	var callers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		callers.Go(func() {
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			body := gatewaytest.TokenBody(strings.Repeat("unknown", 4), "wrong", "ada@example.org")
			for {
				res, err := client.Post(g.URL+"/external-api/v1.0/application/token", "application/json", strings.NewReader(body))
				if err != nil || res.Body.Close() != nil {
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	require.Eventually(t, func() bool {
		var err error
		files, err = audit.Files(path)
		return err == nil && len(files) > 2
	}, time.Minute, 20*time.Millisecond)
	close(stop)
	callers.Wait()

	files, err := audit.Files(path)
	require.NoError(t, err)
	requireIntact(t, auditSecret, files...)
	for _, file := range files {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), file)
	}
	output, status := auditCommand(t, append([]string{"verify"}, append(files[:1:1], files[2:]...)...)...)
	require.Equal(t, 1, status, output)
	require.Regexp(t, `removed: lines \d+ to \d+ are missing`, output)
}

// disk is a place for a trail that can become full.
type disk struct {
	folder     func(t *testing.T) string
	fill, free func(t *testing.T, g *watched, folder string)
}

// smallDisk is a separate file system. Only root can create one.
var smallDisk = disk{
	folder: func(t *testing.T) string {
		folder := t.TempDir()
		if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=128k"); err != nil {
			t.Skipf("no file system can be mounted here: %v; the limit of files is tested", err)
		}
		t.Cleanup(func() { require.NoError(t, syscall.Unmount(folder, 0)) })
		return folder
	},
	fill: func(t *testing.T, _ *watched, folder string) {
		require.ErrorIs(t, os.WriteFile(filepath.Join(folder, "filler"), make([]byte, 1<<20), 0o600), syscall.ENOSPC)
	},
	free: func(t *testing.T, _ *watched, folder string) {
		require.NoError(t, os.Remove(filepath.Join(folder, "filler")))
	},
}

// smallFiles limits the size of files.
var smallFiles = disk{
	folder: func(t *testing.T) string { return t.TempDir() },
	fill: func(t *testing.T, g *watched, folder string) {
		info, err := os.Stat(filepath.Join(folder, "audit.log"))
		require.NoError(t, err)
		require.NoError(t, g.process.LimitFileSize(uint64(info.Size())+100)) // cuts the next line
	},
	free: func(t *testing.T, g *watched, _ string) { require.NoError(t, g.process.LimitFileSize(child.NoLimit)) },
}

// On a full disk the gateway refuses requests or continues with an alarm, as configured. Once
// there is space again, the trail has every answered request.
func TestAudit_DiskFull(t *testing.T) {
	for name, disk := range map[string]disk{"file system": smallDisk, "limit of files": smallFiles} {
		for _, option := range []string{"refuse", "continue"} {
			t.Run(name+", "+option, func(t *testing.T) {
				t.Parallel()
				folder := disk.folder(t)
				path := filepath.Join(folder, "audit.log")
				g := startWatched(t, "store embedded\nsecret "+auditSecret+"\naudit {\noutput file "+path+" {\nroll_disabled\n}\non_failure "+option+"\n}", "backend sandbox")
				id, secret := g.register("")
				issued := 0
				token := func() (int, string) {
					status, bearer := g.token(id, secret, "ada@example.org")
					if status == http.StatusOK {
						issued++
					}
					return status, bearer
				}
				_, bearer := token()
				disk.fill(t, g, folder)
				for range 50 { // the last block has space for a few lines
					if token(); g.scrape()["audit_failing"] == "1" {
						break
					}
				}
				g.shows("audit_failing", "1")
				status, _ := token()
				changed, _ := g.do(http.MethodPost, g.admin+"/meet-gateway/applications", `{"name":"Another","domains":["*"]}`)
				require.Equal(t, http.StatusOK, g.rooms(bearer), "rooms can still be read")
				if option == "refuse" {
					require.Equal(t, []int{http.StatusServiceUnavailable, http.StatusServiceUnavailable}, []int{status, changed})
				} else {
					require.Equal(t, []int{http.StatusOK, http.StatusCreated}, []int{status, changed})
				}
				disk.free(t, g, folder)
				status, _ = token()
				require.Equal(t, http.StatusOK, status)
				g.shows("audit_failing", "0")
				require.Equal(t, "0", g.scrape()["audit_events_lost_total"])

				g.process.Terminate()
				requireIntact(t, auditSecret, path)
				lines := 0
				_, err := audit.Query([]string{path}, audit.Filter{Type: audit.TokenIssued}, func(audit.Line) error { lines++; return nil })
				require.NoError(t, err)
				require.GreaterOrEqual(t, lines, issued)
			})
		}
	}
}

// The files answer an auditor's questions without a running gateway.
func TestAudit_Questions(t *testing.T) {
	meet, g, app, bearer := startRoutes(t, "\nunknown_applications adopt")
	room := g.Do(http.MethodPost, roomsPath, "{}", "Authorization", bearer, "Content-Type", "application/json", "X-Request-Id", "question-1")
	require.Equal(t, http.StatusCreated, room.Status, room.Body)
	roomID, _ := room.JSON(t)["id"].(string)
	slug, _ := room.JSON(t)["slug"].(string)
	require.Equal(t, 200, g.Do(http.MethodDelete, roomsPath+"/"+roomID, "", "Authorization", bearer).Status)
	meet.AddApplication(sandbox.Application{ClientID: "adopted-at-meet", Secret: "adopted-secret-at-meet", Active: true, Scopes: []string{"rooms:list"}})
	for _, secret := range []string{"wrong-secret-at-meet", "adopted-secret-at-meet"} {
		g.TokenRequest(&gatewaytest.Client{Application: &tokens.Application{ID: "adopted-at-meet"}, Secret: secret}, "alice@example.com")
	}
	secret := secretFile(t, auditSecret)
	ask := func(args ...string) (events []audit.Event) {
		t.Helper()
		output, status := auditCommand(t, append([]string{"query", meet.trail, "--json"}, args...)...)
		require.Zero(t, status, output)
		for line := range strings.Lines(output) {
			var e audit.Event
			require.NoError(t, json.Unmarshal([]byte(line), &e), line)
			events = append(events, e)
		}
		return events
	}

	// Who created this room, for whom, by which rule?
	for _, name := range []string{roomID, slug} {
		made := ask("--room", name, "--event", audit.RoomCreated)
		require.Len(t, made, 1)
		require.Equal(t, &audit.Application{ID: app.ID, Name: "Test"}, made[0].Application)
		require.Equal(t, "scope rooms:create", made[0].Rule)
		require.Equal(t, "question-1", made[0].RequestID)
		forWhom := ask("--user", "alice@example.com", "--secret-file", secret, "--event", audit.RoomCreated)
		require.Equal(t, made, forWhom)
		require.Empty(t, ask("--user", "bob@example.com", "--secret-file", secret))
	}
	// What else happened to it, and what does the application do?
	used := ask("--room", roomID, "--event", audit.RouteUsed)
	require.Len(t, used, 1)
	require.Equal(t, &audit.Party{Type: "route", ID: "DELETE /rooms/{id}"}, used[0].Target)
	require.Equal(t, "scope rooms:delete", used[0].Rule)
	require.Equal(t, audit.Allowed, used[0].Decision)
	require.Len(t, ask("--application", app.ID, "--decision", audit.Allowed), 3) // a token, a room, a route

	// Which applications were adopted?
	adopted := ask("--event", "application")
	require.Len(t, adopted, 2)
	require.Equal(t, []string{audit.AdoptRefused, audit.Refused}, []string{adopted[0].Type, adopted[0].Decision})
	require.Equal(t, []string{audit.Adopted, audit.Allowed, "accepted_by_meet"}, []string{adopted[1].Type, adopted[1].Decision, adopted[1].Rule})
	require.NotEmpty(t, adopted[1].Target.ID)
	output, status := auditCommand(t, "query", meet.trail, "--room", roomID)
	require.Zero(t, status)
	require.Contains(t, output, "scope rooms:create")
	require.NotContains(t, output, "alice")
}

// An exceeded quota of new users is recorded, with the user who was refused.
func TestAudit_Quota(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded\nsecret " + auditSecret + "\nlimit users 1/1d\naudit {\noutput file " + path + "\n}"})
	app := g.AddApplication(nil)
	g.Token(app, "first@example.org")
	require.Equal(t, http.StatusForbidden, g.TokenRequest(app, "second@example.org").Status)
	require.Equal(t, []string{"quota.warning", "token.issued", "quota.exceeded", "token.refused"}, auditTypes(t, path))
	key, err := audit.NewKey([]byte(auditSecret))
	require.NoError(t, err)
	_, err = audit.Query([]string{path}, audit.Filter{Type: audit.QuotaExceeded}, func(l audit.Line) error {
		require.Equal(t, []string{audit.Refused, "quota_exceeded", app.ID}, []string{l.Decision, l.Rule, l.Application.ID})
		require.Equal(t, key.MailHash("second@example.org"), l.MailHash)
		require.False(t, l.DryRun)
		return nil
	})
	require.NoError(t, err)
}
