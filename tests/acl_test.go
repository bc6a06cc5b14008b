package tests

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// TestACL_DocumentedUserIsEnough runs everything the gateway does with Redis as
// the user that docs/redis.md recommends.
func TestACL_DocumentedUserIsEnough(t *testing.T) {
	doc, err := os.ReadFile("../docs/redis.md")
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^ACL SETUSER meet-gateway .*$`).FindString(string(doc))
	require.NotEmpty(t, line)
	const password = "acl-test-password"
	var command []any
	for word := range strings.FieldsSeq(strings.Replace(line, ">PASSWORD", ">"+password, 1)) {
		command = append(command, word)
	}

	for name, start := range map[string]func() ([]*redistest.Server, tokens.RedisOptions){
		"server": func() ([]*redistest.Server, tokens.RedisOptions) {
			s := redistest.Standalone(t)
			return []*redistest.Server{s}, tokens.RedisOptions{Addresses: []string{s.Addr()}}
		},
		"cluster": func() ([]*redistest.Server, tokens.RedisOptions) {
			c := redistest.Cluster(t)
			return c.Nodes, tokens.RedisOptions{Addresses: c.Addrs(), Cluster: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			servers, o := start()
			o.Username, o.Password = "meet-gateway", password
			for _, s := range servers {
				require.NoError(t, s.Client().Do(t.Context(), command...).Err())
			}
			storetest.Run(t, func(t *testing.T) *tokens.Store {
				s, err := tokens.OpenRedis(o)
				require.NoError(t, err)
				return s
			})
			for _, s := range servers {
				denied, err := s.Client().Do(t.Context(), "ACL", "LOG").Slice()
				require.NoError(t, err)
				require.Empty(t, denied, "Redis refused something")
			}
		})
	}
}
