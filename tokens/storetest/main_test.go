// SPDX-License-Identifier: MIT

package storetest

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

// quiet drops what go-redis prints when the tests end its server.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// go-redis goes on listening to a Sentinel when its client is closed while it is
// just connecting to one. This package listens in another way (ReceiveTimeout), so
// nothing of ours is overlooked.
func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*sentinelFailover).listen"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*channel).initMsgChan.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*channel).initHealthCheck.func1"))
}
