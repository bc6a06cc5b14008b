package store_test

import (
	"testing"

	"github.com/meet-gateway/meet-gateway/caddymodule/store"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"
)

// However the variable is missing, the error says what to set.
func TestRedis_WithoutURL(t *testing.T) {
	t.Setenv("REDIS_URL", "")
	for _, url := range []string{"", "{env.REDIS_URL}", "{env.MEET_GATEWAY_NOT_THERE}"} {
		s := store.Redis{URL: url}
		require.ErrorContains(t, s.Provision(caddy.Context{}), "set REDIS_URL", url)
	}
}
