// SPDX-License-Identifier: MIT

package redistest

import (
	"bytes"
	"testing"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// CutFeeds closes the connections of all subscribers once; they may subscribe
// again at once. All other connections go on.
func (s *Server) CutFeeds(t testing.TB) {
	t.Helper()
	s.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
}

// RefuseFeeds closes the connections of all subscribers and lets nobody
// subscribe until AllowFeeds, while every other command is served.
func (s *Server) RefuseFeeds(t testing.TB) {
	t.Helper()
	s.do(t, "ACL", "SETUSER", "default", "-subscribe", "-psubscribe", "-ssubscribe")
	s.CutFeeds(t)
}

// AllowFeeds ends RefuseFeeds.
func (s *Server) AllowFeeds(t testing.TB) {
	t.Helper()
	s.do(t, "ACL", "SETUSER", "default", "+subscribe", "+psubscribe", "+ssubscribe")
}

const muteFeedType = "mute_feed"

func init() { toxics.Register(muteFeedType, new(muteFeed)) }

// muteFeed is a toxic that swallows everything on a connection from the first
// published message on. Swallowing single messages would need a parser, since
// the chunks of a stream do not end where messages do.
type muteFeed struct{}

type muteFeedState struct{ muted bool }

// NewState makes the state of one connection.
func (*muteFeed) NewState() any { return new(muteFeedState) }

// Pipe passes on what comes until the connection proves to be a feed.
func (*muteFeed) Pipe(stub *toxics.ToxicStub) {
	state := stub.State.(*muteFeedState)
	for {
		select {
		case <-stub.Interrupt:
			return
		case chunk := <-stub.Input:
			if chunk == nil {
				stub.Close()
				return
			}
			state.muted = state.muted || carriesMessage(chunk)
			if !state.muted {
				stub.Output <- chunk
			}
		}
	}
}

// Cleanup closes a connection that has lost bytes.
func (*muteFeed) Cleanup(stub *toxics.ToxicStub) {
	if stub.State.(*muteFeedState).muted {
		stub.Close()
	}
}

func carriesMessage(chunk *stream.StreamChunk) bool {
	return bytes.Contains(chunk.Data, []byte("$7\r\nmessage\r\n")) ||
		bytes.Contains(chunk.Data, []byte("$8\r\npmessage\r\n")) ||
		bytes.Contains(chunk.Data, []byte("$8\r\nsmessage\r\n"))
}
