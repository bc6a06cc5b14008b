// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// benchRegistry is an Authority on its own Redis server.
type benchRegistry struct {
	*Authority
	ids []string // ordered by name
}

func openRegistry(b *testing.B) *benchRegistry {
	b.Helper()
	store, err := OpenRedis(RedisOptions{URL: redistest.Standalone(b).URL()})
	require.NoError(b, err)
	a, err := New(Options{Store: store, Secrets: [][]byte{[]byte("0123456789-0123456789-0123456789")}})
	require.NoError(b, err)
	a.Start()
	b.Cleanup(func() {
		require.NoError(b, a.Close())
		require.NoError(b, store.Close())
	})
	require.Eventually(b, a.Fresh, 30*time.Second, time.Millisecond)
	return &benchRegistry{Authority: a}
}

func registeredName(i int) string  { return fmt.Sprintf("Platform %07d", i) }
func registeredAlias(i int) string { return fmt.Sprintf("client-%07d", i) }

// fill registers applications until there are n. It writes them as CreateApplication does,
// but in batches.
func (r *benchRegistry) fill(b *testing.B, n int) {
	b.Helper()
	const batch = 1000
	ctx := context.Background()
	created := time.Now().UTC().Truncate(time.Millisecond)
	for len(r.ids) < n {
		pipe := r.db.Client().Pipeline()
		for i := len(r.ids); i < min(n, len(r.ids)+batch); i++ {
			app := &Application{
				ID: vault.RandomID(vault.ApplicationID), Name: registeredName(i), Type: "classic", Active: true,
				Aliases: []string{registeredAlias(i)}, Domains: []string{"example.org", fmt.Sprintf("p%d.example", i)},
				Scopes:  Scopes{ScopeRoomsList, ScopeRoomsRetrieve, ScopeRoomsCreate},
				Backend: &BackendCredentials{ClientID: registeredAlias(i), ClientSecret: "secret-at-meet"},
				Created: created, Updated: created,
			}
			app.storedSecrets = []secrets.Stored{secrets.New(r.keys, vault.RandomID(8), app.ID, registeredAlias(i), created)}
			doc, err := r.applications.codec.encode(app)
			require.NoError(b, err)
			pipe.HSet(ctx, redisdb.KeyApplication(app.ID), fieldVersion, 1, fieldDocument, doc)
			pipe.ZAdd(ctx, redisdb.KeyIndex, redis.Z{Member: indexMember(app.Name, app.ID)})
			pipe.Set(ctx, redisdb.KeyAlias(registeredAlias(i)), app.ID, 0)
			pipe.SAdd(ctx, redisdb.KeyBackend(registeredAlias(i)), app.ID)
			r.ids = append(r.ids, app.ID)
			if len(r.ids)%batch == 0 {
				break
			}
		}
		_, err := pipe.Exec(ctx)
		require.NoError(b, err)
	}
}

// after returns the Next of the page that ends with number i.
func (r *benchRegistry) after(i int) string {
	return base64.RawURLEncoding.EncodeToString([]byte(indexMember(registeredName(i), r.ids[i])))
}

// BenchmarkRegistry measures lookups and listings with a growing number of applications.
// It also reports the time that Redis spends on commands, which depends less on the load
// of the machine. Neither must grow. The largest size needs about 1.5 GB for Redis and is
// skipped with -short.
func BenchmarkRegistry(b *testing.B) {
	r := openRegistry(b)
	ctx := context.Background()
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		if n > 1_000 && testing.Short() {
			break
		}
		r.fill(b, n)
		b.Run(fmt.Sprintf("applications=%d", n), func(b *testing.B) { r.measure(ctx, b, n) })
	}
}

func (r *benchRegistry) measure(ctx context.Context, b *testing.B, n int) {
	each := func(name string, do func(i int) error) {
		b.Run(name, func(b *testing.B) {
			require.NoError(b, r.db.Client().Do(ctx, "CONFIG", "RESETSTAT").Err())
			b.ReportAllocs()
			for b.Loop() {
				if err := do(rand.IntN(n)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(r.busy(ctx, b)/float64(b.N), "redis-µs/op")
		})
	}
	each("find=id", func(i int) error {
		_, err := r.CurrentApplication(ctx, r.ids[i])
		return err
	})
	each("find=alias", func(i int) error {
		_, err := r.CurrentApplication(ctx, registeredAlias(i))
		return err
	})
	each("authenticate", func(i int) error {
		i -= i % (n / 1_000) // uses 1,000 of them, because the first use in a minute is written
		_, _, err := r.Authenticate(ctx, registeredAlias(i), registeredAlias(i))
		return err
	})
	list := func(name string, o ListOptions, first int) {
		each("list="+name, func(int) error {
			page, err := r.Applications(ctx, o)
			if err == nil && (len(page.Applications) == 0 || page.Applications[0].Name != registeredName(first)) {
				err = fmt.Errorf("not the page that begins with %s", registeredName(first))
			}
			return err
		})
	}
	list("first", ListOptions{}, 0)
	list("middle", ListOptions{After: r.after(n / 2)}, n/2+1)
	list("last", ListOptions{After: r.after(n - 51)}, n-50)
	list("prefix", ListOptions{Prefix: registeredName(n / 20 * 10)[:len(registeredName(0))-1]}, n/20*10)
	list("one", ListOptions{Prefix: registeredName(n - 1)}, n-1)
}

// busy returns the microseconds that Redis spent on commands since its statistics were
// reset.
func (r *benchRegistry) busy(ctx context.Context, b *testing.B) (sum float64) {
	b.Helper()
	info, err := r.db.Client().Info(ctx, "commandstats").Result()
	require.NoError(b, err)
	for line := range strings.Lines(info) {
		if _, rest, ok := strings.Cut(line, ",usec="); ok {
			text, _, _ := strings.Cut(rest, ",")
			usec, err := strconv.ParseFloat(text, 64)
			require.NoError(b, err)
			sum += usec
		}
	}
	return sum
}

// BenchmarkSecretCheck measures the CPU time of a right and of a wrong secret without
// Redis. The limit is 10 µs.
func BenchmarkSecretCheck(b *testing.B) {
	a := openRegistry(b).Authority
	ctx := context.Background()
	created, secret, err := a.CreateApplication(ctx, Application{Name: "Calendar", Active: true})
	require.NoError(b, err)
	app, err := a.applications.read(ctx, created.ID)
	require.NoError(b, err)
	for name, given := range map[string]string{"right": secret, "wrong": vault.NewSecret(SecretPrefix)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v, err := a.logins.secrets.Find(ctx, app.storedSecrets, app.ID, given)
				if err != nil || (v != nil) != (name == "right") {
					b.Fatal(v, err)
				}
			}
		})
	}
}

// BenchmarkAuthenticate_Timing measures what the duration of a refusal reveals. It
// compares a wrong secret with an unknown id, an inactive application and a cached
// application, each with a wrong secret, in a varying order. It reports each median, the
// difference of the medians from that of a wrong secret, and the p-value of a two-sided
// Mann-Whitney test. With p below 0.01, as many samples distinguish the cases. It sets no
// limit.
func BenchmarkAuthenticate_Timing(b *testing.B) {
	r := openRegistry(b)
	ctx := context.Background()
	r.fill(b, 1_000)
	_, err := r.UpdateApplication(ctx, r.ids[501], 0, func(n *Application) error { n.Active = false; return nil })
	require.NoError(b, err)
	cached, secret, err := r.CreateApplication(ctx, Application{Name: "Remembered", Active: true, Domains: []string{"example.org"}})
	require.NoError(b, err)
	require.Eventually(b, r.Fresh, 20*time.Second, time.Millisecond)
	_, _, err = r.Authenticate(ctx, cached.ID, secret)
	require.NoError(b, err)
	cases := []struct{ name, id string }{
		{"wrong", r.ids[500]}, {"unknown", vault.RandomID(vault.ApplicationID)}, {"inactive", r.ids[501]}, {"remembered", cached.ID},
	}
	samples := make([][]float64, len(cases))
	for b.Loop() {
		for _, i := range rand.Perm(len(cases)) {
			secret := vault.NewSecret(SecretPrefix)
			began := time.Now()
			_, _, err := r.Authenticate(ctx, cases[i].id, secret)
			took := time.Since(began)
			require.ErrorIs(b, err, ErrInvalidClient)
			samples[i] = append(samples[i], float64(took))
		}
	}
	for i, c := range cases {
		b.ReportMetric(median(samples[i]), c.name+"-median-ns")
		if i > 0 {
			b.ReportMetric(median(samples[i])-median(samples[0]), c.name+"-diff-ns")
			b.ReportMetric(mannWhitney(samples[i], samples[0]), c.name+"-p")
		}
	}
}

func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	return s[len(s)/2]
}

// mannWhitney returns the two-sided p-value of the U test. It uses the normal
// approximation, which is good from about twenty samples on. Ties share their ranks.
func mannWhitney(x, y []float64) float64 {
	type sample struct {
		value float64
		ofX   bool
	}
	all := make([]sample, 0, len(x)+len(y))
	for _, v := range x {
		all = append(all, sample{v, true})
	}
	for _, v := range y {
		all = append(all, sample{v, false})
	}
	slices.SortFunc(all, func(a, b sample) int {
		switch {
		case a.value < b.value:
			return -1
		case a.value > b.value:
			return 1
		}
		return 0
	})
	var ranks float64
	for i := 0; i < len(all); {
		end := i + 1
		for end < len(all) && all[end].value == all[i].value {
			end++
		}
		for _, s := range all[i:end] {
			if s.ofX {
				ranks += float64(i+1+end) / 2
			}
		}
		i = end
	}
	n, m := float64(len(x)), float64(len(y))
	u := ranks - n*(n+1)/2
	z := (u - n*m/2) / math.Sqrt(n*m*(n+m+1)/12)
	return math.Erfc(math.Abs(z) / math.Sqrt2)
}

func TestMannWhitney(t *testing.T) {
	low, high := make([]float64, 100), make([]float64, 100)
	for i := range low {
		low[i], high[i] = float64(i), float64(i)+50.5
	}
	require.InDelta(t, 1, mannWhitney(low, low), 1e-9)
	require.Less(t, mannWhitney(low, high), 1e-6)
	require.InDelta(t, mannWhitney(low, high), mannWhitney(high, low), 1e-12)
	// U = 7 of 25: z = -1.149.
	require.InDelta(t, 0.251, mannWhitney([]float64{1, 2, 4, 6, 9}, []float64{3, 5, 7, 8, 10}), 0.002)
}
