// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/idempotency"
	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/rekey"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
	"github.com/meet-gateway/meet-gateway/tokens/quota"
)

// mailIn returns the first mail address of these tests in the text, in clear or in base64.
func mailIn(text string) string {
	if found := canary.FindString(text); found != "" {
		return found
	}
	for _, word := range base64Word.FindAllString(text, -1) {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			plain, _ := encoding.DecodeString(strings.TrimRight(word, "="))
			if found := canary.FindString(string(plain)); found != "" {
				return found
			}
		}
	}
	return ""
}

var (
	canary     = regexp.MustCompile(`[a-z]+(@|%40|\\u0040)leak\.example`)
	base64Word = regexp.MustCompile(`[A-Za-z0-9+/_-]{16,}=*`)
)

// monitor is a hook that inspects all commands, as MONITOR does.
type monitor struct {
	mu     sync.Mutex
	leaks  []string
	called map[string]bool // hashes of the scripts that ran
}

func (m *monitor) see(cmd redis.Cmder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.called == nil {
		m.called = map[string]bool{}
	}
	for i, arg := range cmd.Args() {
		text, isText := arg.(string)
		if b, ok := arg.([]byte); ok {
			text = string(b)
		} else if !isText {
			text = fmt.Sprint(arg)
		}
		if i == 1 && strings.HasPrefix(cmd.Name(), "eval") {
			if strings.Contains(text, "redis.call") {
				text = redis.NewScript(text).Hash()
			}
			m.called[text] = true
		}
		if found := mailIn(text); found != "" {
			m.leaks = append(m.leaks, fmt.Sprintf("%s: argument %d has %s: %.200s", cmd.Name(), i, found, text))
		}
	}
}

func (m *monitor) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (m *monitor) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		m.see(cmd)
		return next(ctx, cmd)
	}
}

func (m *monitor) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			m.see(cmd)
		}
		return next(ctx, cmds)
	}
}

// monitoredNode starts a gateway whose commands are inspected.
func monitoredNode(t *testing.T, server *miniredis.Miniredis, change ...func(*Options)) (*Authority, *monitor) {
	t.Helper()
	m := new(monitor)
	a, _ := testNode(t, server, append(change, func(o *Options) { o.Store.Client().AddHook(m) })...)
	return a, m
}

// No command, no feed message and no value in Redis holds a mail address in clear.
func TestNoMailInRedis(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	oldKey, newKey := []byte("nomail-former-secret-0123456789abcdef"), []byte("nomail-latter-secret-0123456789abcdef")
	a, first := monitoredNode(t, server, withSecrets(oldKey), func(o *Options) { o.Quota = QuotaOptions{Users: 10, UsersDomain: 5} })

	// Operations of the operator.
	denied := []Mail{"boss@leak.example", "head@leak.example"}
	template := Application{
		Name: "Calendar", Active: true, Domains: []string{"leak.example"}, Scopes: Scopes{ScopeRoomsList}, Refresh: true,
		DeniedMails: denied, Note: "Ask admin@leak.example.", Aliases: []string{"calendar"},
	}
	app, _, err := a.CreateApplication(ctx, template)
	require.NoError(t, err)
	require.Equal(t, denied, app.DeniedMails)
	app, err = a.UpdateApplication(ctx, app.ID, 0, func(n *Application) error {
		n.Name, n.DeniedMails = "Calendar 2", append(n.DeniedMails, "chief@leak.example")
		return nil
	})
	require.NoError(t, err)
	_, err = a.ConfirmApplication(ctx, app.ID)
	require.NoError(t, err)
	_, secret, err := a.RotateSecret(ctx, app.ID, 0, time.Hour)
	require.NoError(t, err)
	imported := template
	imported.Aliases = []string{"imported"}
	_, err = a.ImportApplication(ctx, imported, ImportedSecret{ClientID: "imported"})
	require.NoError(t, err)
	_, err = a.Adopt(ctx, "adopted", "adopted secret", func(context.Context) (Application, error) {
		return Application{Name: "Adopted", Scopes: template.Scopes, DeniedMails: denied, Note: template.Note}, nil
	})
	require.NoError(t, err)
	_, err = a.Adopt(ctx, "refused", "ada@leak.example", func(context.Context) (Application, error) { return Application{}, ErrInvalidClient })
	require.ErrorIs(t, err, ErrInvalidClient)

	// Operations of a platform.
	login, _, err := a.Authenticate(ctx, "calendar", secret)
	require.NoError(t, err)
	require.ErrorIs(t, login.MayDelegate("chief@leak.example"), ErrDomainNotAllowed)
	_, _, err = a.Authenticate(ctx, app.ID, "ada@leak.example")
	require.ErrorIs(t, err, ErrInvalidClient)
	admission, err := a.Admit(ctx, login, "new@leak.example")
	require.NoError(t, err)
	require.NoError(t, admission.Withdraw(ctx))
	tok, err := a.Issue(ctx, Grant{Application: login, Mail: "ada@leak.example", Scopes: login.Scopes, BackendUserID: "1"})
	require.NoError(t, err)
	tok, err = a.Refresh(ctx, login, tok.Refresh)
	require.NoError(t, err)
	identity, err := a.Verify(ctx, tok.Value)
	require.NoError(t, err)
	rate := limit.Rate{Count: 3, Per: time.Minute}
	for _, k := range []limit.Key{{Policy: limit.Token, Subject: "ada@leak.example"}, {Policy: limit.Token, Subject: app.ID, Detail: "ada@leak.example"}} {
		_, err = a.Debit(ctx, k, rate, 1)
		require.NoError(t, err)
	}
	replay, err := a.BeginIdempotent(ctx, app.ID, identity.User.ID, "for-ada@leak.example", hashToken("body of ada@leak.example"))
	require.NoError(t, err)
	require.NoError(t, replay.Finish(ctx, Answer{Status: 201, Body: []byte(`{"owner":"ada@leak.example"}`)}))
	const atMeet = "calendar\x00ada@leak.example"
	require.NoError(t, a.SaveMeetToken(ctx, atMeet, []byte("token of ada@leak.example"), time.Minute))
	unlock, _, err := a.LockMeetToken(ctx, atMeet, time.Minute)
	require.NoError(t, err)
	unlock()
	_, err = a.LoadMeetToken(ctx, atMeet)
	require.NoError(t, err)
	require.NoError(t, a.DropMeetToken(ctx, atMeet, []byte("token of ada@leak.example")))
	_, err = a.User(ctx, "nobody@leak.example")
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, a.RevokeGrant(ctx, app.ID, "ada@leak.example"))
	require.NoError(t, a.RevokeUser(ctx, "ada@leak.example"))
	require.NoError(t, a.RevokeToken(ctx, "ada@leak.example"))
	require.NoError(t, a.gateways.Announce(ctx))

	// A replay writes lost records again.
	a.drain(t)
	requireNoMailStored(t, server)
	server.FlushAll()
	replayJournal(t, a)
	back, err := a.CurrentApplication(ctx, app.ID)
	require.NoError(t, err)
	require.Equal(t, app.DeniedMails, back.DeniedMails)
	require.Equal(t, template.Note, back.Note)

	// A rekey pass moves the records to a new secret.
	b, second := monitoredNode(t, server, withSecrets(newKey, oldKey), func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(IdempotencyLifetime + 2*time.Hour) }
	})
	require.Eventually(t, func() bool { // the emptied server is believed only once it is steady
		return b.Rekey(ctx, func(int) {}) == nil
	}, 10*time.Second, 10*time.Millisecond)
	a.drain(t)
	b.drain(t)
	requireNoMailStored(t, server)

	for _, m := range []*monitor{first, second} {
		m.mu.Lock()
		defer m.mu.Unlock()
		require.Empty(t, m.leaks)
	}
	for name, script := range map[string]*redis.Script{
		"save": saveScript, "confirm": confirmScript, "publish": feed.PublishScript, "admit": quota.AdmitScript, "withdraw": quota.WithdrawScript,
		"new user": newUserScript, "grant": revokeGrantScript, "count": countIfScript, "begin": idempotency.BeginScript, "settle": idempotency.SettleScript,
		"rotate": family.RotateScript, "edit again": editAgainScript, "family again": family.AgainScript,
	} {
		require.True(t, first.called[script.Hash()], "script %s did not run", name)
	}
}

// drain waits for the background work.
func (a *Authority) drain(t *testing.T) {
	t.Helper()
	a.background.Wait()
}

// requireNoMailStored requires that no key or value in Redis holds a mail address.
func requireNoMailStored(t *testing.T, server *miniredis.Miniredis) {
	t.Helper()
	require.NotEmpty(t, server.Keys())
	for _, key := range server.Keys() {
		texts := []string{key}
		switch server.Type(key) {
		case "string":
			value, _ := server.Get(key)
			texts = append(texts, value)
		case "hash":
			fields, _ := server.HKeys(key)
			for _, field := range fields {
				texts = append(texts, field, server.HGet(key, field))
			}
		case "set":
			members, _ := server.Members(key)
			texts = append(texts, members...)
		case "zset":
			members, _ := server.ZMembers(key)
			texts = append(texts, members...)
		default:
			t.Errorf("%s is a %s", key, server.Type(key))
		}
		for _, text := range texts {
			require.Empty(t, mailIn(text), "%s", key)
		}
	}
}

// A record of a former version holds denied addresses and a note in clear. It is readable,
// and its next write encrypts them.
func TestNoMailInRedis_FormerRecords(t *testing.T) {
	for name, write := range map[string]func(context.Context, *Authority, string) error{
		"edit": func(ctx context.Context, a *Authority, id string) error {
			_, err := a.UpdateApplication(ctx, id, 0, func(n *Application) error { n.Name = "Renamed"; return nil })
			return err
		},
		"confirm": func(ctx context.Context, a *Authority, id string) error {
			_, err := a.ConfirmApplication(ctx, id)
			return err
		},
		"rekey": func(ctx context.Context, a *Authority, id string) error {
			return a.rekeying.application(ctx, id, rekey.New(a.keys.First().ID, time.Now()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			server := miniredis.RunT(t)
			a, m := monitoredNode(t, server)
			app, secret, err := a.CreateApplication(ctx, Application{Name: "Calendar", Active: true, Domains: []string{"leak.example"}})
			require.NoError(t, err)
			key := redisdb.KeyApplication(app.ID)
			var record map[string]any
			require.NoError(t, json.Unmarshal([]byte(server.HGet(key, fieldDocument)), &record))
			record["denied"], record["note"] = []string{"boss@leak.example"}, "Ask admin@leak.example."
			document, err := json.Marshal(record)
			require.NoError(t, err)
			server.HSet(key, fieldDocument, string(document))

			require.NoError(t, write(ctx, a, app.ID))
			requireNoMailStored(t, server)
			m.mu.Lock()
			require.Empty(t, m.leaks)
			m.mu.Unlock()
			b, _ := testNode(t, server)
			for _, gateway := range []*Authority{a, b} {
				read, _, err := gateway.Authenticate(ctx, app.ID, secret)
				require.NoError(t, err)
				require.ErrorIs(t, read.MayDelegate("boss@leak.example"), ErrDomainNotAllowed)
				require.NoError(t, read.MayDelegate("ada@leak.example"))
				require.Equal(t, "Ask admin@leak.example.", read.Note)
			}
			_, err = a.UpdateApplication(ctx, app.ID, 0, func(n *Application) error {
				n.DeniedMails, n.Note = nil, ""
				return nil
			})
			require.NoError(t, err)
			waitForChanges(t, b, server)
			read, _, err := b.Authenticate(ctx, app.ID, secret)
			require.NoError(t, err)
			require.Empty(t, read.DeniedMails)
			require.Empty(t, read.Note)
		})
	}
}

// An application whose denied addresses cannot be decrypted is refused.
func TestDeniedMails_Unreadable(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	app, _, err := a.CreateApplication(ctx, Application{
		Name: "Calendar", Active: true, Domains: []string{"leak.example"}, DeniedMails: []Mail{"boss@leak.example"}, Note: "note",
	})
	require.NoError(t, err)
	b, _ := testNode(t, server, func(o *Options) { o.Secrets = [][]byte{[]byte(strings.Repeat("o", MinSecret))} })
	_, secret, err := b.RotateSecret(ctx, app.ID, 0, 0)
	require.NoError(t, err)
	_, _, err = b.Authenticate(ctx, app.ID, secret)
	require.ErrorIs(t, err, ErrUnavailable)
	_, err = b.Application(ctx, app.ID)
	require.ErrorIs(t, err, ErrUnavailable)

	// An edit of another field keeps them, and a rekey pass reports them.
	edited, err := b.UpdateApplication(ctx, app.ID, 0, func(n *Application) error { n.Name, n.DeniedMails = "Renamed", nil; return nil })
	require.NoError(t, err)
	require.True(t, edited.DeniedUnreadable())
	require.Len(t, edited.Warnings(), 3, "no scope, the denied addresses, the note")
	kept, err := a.CurrentApplication(ctx, app.ID)
	require.NoError(t, err)
	require.Equal(t, []Mail{"boss@leak.example"}, kept.DeniedMails)
	require.Equal(t, "note", kept.Note)
	report := rekey.New(b.keys.First().ID, time.Now())
	require.NoError(t, b.rekeying.application(ctx, app.ID, report))
	require.Equal(t, 1, report.Of(a.keys.First().ID).Applications)

	// They can be replaced, also by an empty list.
	for _, again := range [][]Mail{{"head@leak.example"}, nil} {
		set, err := b.UpdateApplication(ctx, app.ID, 0, func(n *Application) error { n.DenyMails(again); n.Note = "another"; return nil })
		require.NoError(t, err)
		require.Equal(t, again, set.DeniedMails)
		require.False(t, set.DeniedUnreadable())
		_, _, err = b.Authenticate(ctx, app.ID, secret)
		require.NoError(t, err)
	}
}

// Records with denied addresses have format 2, so that a gateway that knows only format 1
// does not serve them.
func TestDeniedMails_Format(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	for denied, format := range map[Mail]string{"": `{"f":1,`, "boss@leak.example": `{"f":2,`} {
		n := Application{Name: "Calendar"}
		if denied != "" {
			n.DeniedMails = []Mail{denied}
		}
		app, _, err := a.CreateApplication(ctx, n)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(server.HGet(redisdb.KeyApplication(app.ID), fieldDocument), format))
	}
	for _, format := range []string{"0", "3"} {
		_, err := a.applications.codec.decode("x", map[string]string{fieldDocument: `{"f":` + format + `,"id":"x"}`})
		require.ErrorIs(t, err, ErrUnavailable)
	}
}
