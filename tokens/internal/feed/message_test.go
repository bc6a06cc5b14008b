// SPDX-License-Identifier: MIT

package feed

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
)

var testScript = journal.NewScript(`return 0`)

// A parsed message equals the one that was sent.
func TestMessage_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := journal.Entry{
			Rank: rapid.SampledFrom([]journal.Rank{journal.Edits, journal.Fallbacks, journal.Revocations}).Draw(t, "rank"),
			Name: rapid.String().Draw(t, "name"), Version: rapid.Int64().Draw(t, "version"),
			Key: rapid.String().Draw(t, "key"), Script: testScript, Stays: rapid.Bool().Draw(t, "stays"),
			Args: []any{string(rapid.SliceOf(rapid.Byte()).Draw(t, "argument"))},
		}
		if ms := rapid.Int64Range(0, 1<<45).Draw(t, "expires"); ms > 0 {
			e.Expires = time.UnixMilli(ms)
		}
		m := message{Forget: []string{e.Key}, Redo: []journal.Entry{e}}
		text, err := json.Marshal(m)
		require.NoError(t, err)
		back, err := parseMessage(string(text))
		require.NoError(t, err)
		require.Equal(t, m, back)
	})
}

// An entry of an unknown kind, or of a kind that gateways do not share, is left out.
func TestMessage_IgnoresUnknownEntries(t *testing.T) {
	for _, entry := range []string{
		`{"r":3,"k":"mg1:u:x","s":"0000000000000000000000000000000000000000"}`,
		`{"r":200,"k":"mg1:u:x","s":"` + testScript.Hash() + `"}`,
		`{"r":6,"k":"mg1:t:x","s":"` + testScript.Hash() + `"}`,
	} {
		m, err := parseMessage(`{"f":["mg1:u:x"],"r":[` + entry + `]}`)
		require.NoError(t, err)
		require.Equal(t, message{Forget: []string{"mg1:u:x"}, Redo: []journal.Entry{}}, m)
	}
	for _, bad := range []string{"", "a 0123 4", "[]", `{"f":1}`, `{"r":[{"a":["!"]}]}`} {
		_, err := parseMessage(bad)
		require.Error(t, err, bad)
	}
}

func FuzzParseMessage(f *testing.F) {
	for _, s := range []string{"a 0123 4", "", "{}", `{"f":["mg1:a:x"],"r":[{"r":1,"n":"x","v":3,"k":"mg1:a:x","s":"` + testScript.Hash() + `","a":["MQ=="],"p":true}]}`, `{"all":true}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMessage(s)
		if err != nil {
			return
		}
		new(journal.Journal).Add(m.Redo...)
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseMessage(string(text))
		if err != nil || len(back.Redo) != len(m.Redo) || len(back.Forget) != len(m.Forget) {
			t.Fatalf("%q was parsed as %v, and that as %v %v", s, m, back, err)
		}
	})
}

func TestFeed_ManyPendingMessagesBecomeOne(t *testing.T) {
	f := New(nil, nil, nil, time.Second, time.Now)
	for i := range maxPending {
		f.queue(message{Forget: []string{fmt.Sprint(i)}})
		f.queue(message{Forget: []string{fmt.Sprint(i)}})
	}
	require.Len(t, f.pending, maxPending)
	f.queue(message{Forget: []string{"one more"}})
	require.Equal(t, []message{{All: true}}, f.pending)
}
