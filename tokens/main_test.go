// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

// quiet drops the log of go-redis.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// TestMain ignores goroutines of go-redis: it keeps listening to a Sentinel if its client
// is closed while it connects, and looks for a server that is down up to a second longer than
// its client is open. The code under test listens with ReceiveTimeout, so its
// goroutines are still checked.
func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*sentinelFailover).listen"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*channel).initMsgChan.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*channel).initHealthCheck.func1"))
}
