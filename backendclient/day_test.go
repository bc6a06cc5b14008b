// SPDX-License-Identifier: MIT

package backendclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tests/seed"
)

// hourlyShare is the share of a working day's requests in each hour, in thousandths.
var hourlyShare = [24]int{1, 1, 0, 0, 1, 2, 8, 40, 110, 140, 125, 95, 50, 85, 120, 110, 65, 25, 10, 5, 3, 2, 1, 1}

// visit is one request of a user, in seconds since the first midnight.
type visit struct{ at, user int32 }

// drawVisits draws the visits of some users over a number of days. Most users come every day
// and throughout the day, some for one hour only. Some skip a day, and some appear on a later
// day.
func drawVisits(r *rand.Rand, users, days int) []visit {
	var hours []int32
	for hour, share := range hourlyShare {
		for range share {
			hours = append(hours, int32(hour)*3600)
		}
	}
	var visits []visit
	for user := range int32(users) {
		first := 0
		if r.IntN(100) < 2 { // new on one of the days
			first = r.IntN(days)
		}
		allDay := r.IntN(100) < 70
		for day := first; day < days; day++ {
			if r.IntN(100) < 5 { // a day off
				continue
			}
			midnight, hour := int32(day)*24*3600, hours[r.IntN(len(hours))]
			for range 1 + r.IntN(6) {
				if allDay {
					hour = hours[r.IntN(len(hours))]
				}
				visits = append(visits, visit{midnight + hour + r.Int32N(3600), user})
			}
		}
	}
	slices.SortFunc(visits, func(a, b visit) int { return int(a.at) - int(b.at) })
	return visits
}

// exchangesOnDemand counts the exchanges of one day if tokens are fetched when they are needed
// and are usable for the given time.
func exchangesOnDemand(visits []visit, usable time.Duration, day int) (exchanges int) {
	until := map[int32]int32{}
	for _, v := range visits {
		if v.at >= until[v.user] {
			until[v.user] = v.at + 1 + int32(usable/time.Second)
			if int(v.at)/(24*3600) == day {
				exchanges++
			}
		}
	}
	return exchanges
}

// slowMeet answers an exchange after a second.
type slowMeet struct {
	life                     time.Duration
	running, most, exchanges atomic.Int64
}

func (m *slowMeet) RoundTrip(r *http.Request) (*http.Response, error) {
	var asked struct{ Scope string }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return nil, err
	}
	running := m.running.Add(1)
	for most := m.most.Load(); running > most && !m.most.CompareAndSwap(most, running); most = m.most.Load() {
	}
	time.Sleep(time.Second)
	m.running.Add(-1)
	m.exchanges.Add(1)
	body := fmt.Sprintf(`{"access_token":"%s.%d","expires_in":%d,"scope":"rooms:list"}`, strings.ReplaceAll(asked.Scope, "@", "."), time.Now().UnixNano(), int(m.life.Seconds()))
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

// replayVisits sends the visits to two gateways that share a store. For each day it returns
// the total number of exchanges so far, and how many of them were renewals.
func replayVisits(t *testing.T, visits []visit, days int, life time.Duration, exchanges int, renewing bool) (all, renewals []int) {
	store, meet := newMemory(), &slowMeet{life: life}
	ctx, cancel := context.WithCancel(t.Context())
	var gateways [2]*backendclient.Client
	var callers, renewers sync.WaitGroup
	for i := range gateways {
		o := backendclient.Options{Transport: meet, Host: host, Store: store, MaxExchanges: exchanges, MaxTokens: 200_000}
		if renewing {
			o.MayRenew = func(context.Context, backendclient.Caller) bool { return true }
		}
		c, err := backendclient.New(o)
		require.NoError(t, err)
		gateways[i] = c
		renewers.Go(func() { c.Renew(ctx) })
	}
	began, failed := time.Now(), atomic.Int64{}
	for day := range days {
		for len(visits) > 0 && int(visits[0].at) < (day+1)*24*3600 {
			v := visits[0]
			visits = visits[1:]
			if wait := time.Until(began.Add(time.Duration(v.at) * time.Second)); wait > 0 {
				time.Sleep(wait)
			}
			callers.Go(func() {
				caller := backendclient.Caller{Credentials: full, Mail: fmt.Sprintf("user%d@example.com", v.user)}
				if _, err := gateways[(v.at+v.user)%2].Token(ctx, caller); err != nil {
					failed.Add(1)
				}
			})
		}
		time.Sleep(time.Until(began.Add(time.Duration(day+1) * 24 * time.Hour)))
		renewed := 0
		for _, c := range gateways {
			s := c.Stats()
			renewed += int(s.Renewals.Exchanged)
			require.Zero(t, s.Renewals.Failed+s.Renewals.Refused)
		}
		all, renewals = append(all, int(meet.exchanges.Load())), append(renewals, renewed)
	}
	callers.Wait()
	cancel()
	renewers.Wait()
	require.Zero(t, failed.Load())
	require.LessOrEqual(t, int(meet.most.Load()), len(gateways)*exchanges)
	return all, renewals
}

// On the second of two working days, callers wait for at least twenty times fewer exchanges
// than with tokens of one hour that are fetched on demand.
func TestRenew_WorkingDay(t *testing.T) {
	t.Parallel()
	from := seed.Of(t, "DAY_SEED")
	visits := drawVisits(rand.New(rand.NewPCG(from, from)), dayUsers, 2)
	before := exchangesOnDemand(visits, 54*time.Minute, 1)
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // use more memory to run faster
	synctest.Test(t, func(t *testing.T) {
		all, renewals := replayVisits(t, visits, 2, 24*time.Hour, 8, true)
		path, ahead := all[1]-all[0]-renewals[1]+renewals[0], renewals[1]-renewals[0]
		t.Logf("%d users; first day: %d on the path, %d ahead; second day: %d on the path, %d ahead; with 1 h on demand: %d, %.1f times as many",
			dayUsers, all[0]-renewals[0], renewals[0], path, ahead, before, float64(before)/float64(path))
		require.GreaterOrEqual(t, before, 20*path)
	})
}

// The estimate that TestRenew_WorkingDay compares with matches what the client does.
func TestExchangesOnDemand_MatchesClient(t *testing.T) {
	t.Parallel()
	visits := drawVisits(rand.New(rand.NewPCG(1, 1)), 1000, 2)
	synctest.Test(t, func(t *testing.T) {
		all, renewals := replayVisits(t, visits, 2, time.Hour, 8, false)
		require.Equal(t, []int{0, 0}, renewals)
		require.InEpsilon(t, exchangesOnDemand(visits, 54*time.Minute, 1), all[1]-all[0], 0.01)
	})
}
