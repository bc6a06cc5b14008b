// SPDX-License-Identifier: MIT

package secrets

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// slowPool returns a pool in which each check takes a second, with the maximum of
// concurrent checks and the number of finished ones.
func slowPool(t *testing.T) (p pool, most, done *atomic.Int32) {
	t.Helper()
	var running atomic.Int32
	most, done = new(atomic.Int32), new(atomic.Int32)
	return newPool(func(_, secret string) (bool, error) {
		most.Store(max(most.Load(), running.Add(1)))
		time.Sleep(time.Second)
		running.Add(-1)
		done.Add(1)
		return secret == "right", nil
	}), most, done
}

func TestHashPool_BoundsConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, most, done := slowPool(t)
		var busy atomic.Int32
		var all sync.WaitGroup
		for range 3 * maxWaitingHashes {
			all.Go(func() {
				ok, err := p.verify(t.Context(), "pbkdf2_sha256$1000000$salt$hash", "right")
				if err != nil {
					busy.Add(1)
					assert.ErrorIs(t, err, failure.ErrBusy)
				} else {
					assert.True(t, ok)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, most.Load())
		require.EqualValues(t, maxWaitingHashes, done.Load())
		require.EqualValues(t, 2*maxWaitingHashes, busy.Load())

		go func() { _, _ = p.verify(t.Context(), "", "") }()
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := p.verify(short, "", "")
		require.ErrorIs(t, err, failure.ErrBusy)
		time.Sleep(time.Second)
		ok, err := p.verify(t.Context(), "", "wrong")
		require.NoError(t, err)
		require.False(t, ok)
	})
}

// After a hash that uses several cores the pool pauses, so that it uses one core on
// average.
func TestHashPool_UsesOneCoreOnAverage(t *testing.T) {
	cores := runtime.GOMAXPROCS(0)
	for encoded, want := range map[string]int{
		"pbkdf2_sha256$1000000$salt$hash":                1,
		"bcrypt_sha256$$2b$12$saltandhash":               1,
		"argon2$argon2id$v=19$m=102400,t=2,p=1$salt$sum": 1,
		"argon2$argon2id$v=19$m=102400,t=2,p=2$salt$sum": min(2, cores),
		"argon2$argon2id$v=19$m=102400,t=2,p=8$salt$sum": min(8, cores),
	} {
		synctest.Test(t, func(t *testing.T) {
			p, most, _ := slowPool(t)
			began := time.Now()
			for range 2 {
				_, err := p.verify(t.Context(), encoded, "")
				require.NoError(t, err)
			}
			// The second hash waits for the pause after the first, not for its own.
			require.Equal(t, time.Duration(want)*time.Second+time.Second, time.Since(began), encoded)
			require.EqualValues(t, 1, most.Load())
		})
	}
}
