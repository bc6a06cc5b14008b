// SPDX-License-Identifier: MIT

package limit_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]limit.Rate{
		"60/1m":      {60, time.Minute},
		"60/m":       {60, time.Minute},
		"10/s":       {10, time.Second},
		"1/90s":      {1, 90 * time.Second},
		"5/1m30s":    {5, 90 * time.Second},
		"500/1d":     {500, 24 * time.Hour},
		"500/24h":    {500, 24 * time.Hour},
		"1000000/1s": {1_000_000, time.Second},
		"off":        {},
	} {
		got, err := limit.Parse(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
		again, err := limit.Parse(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
	for in, message := range map[string]string{
		"":                         `should look like "60/1m"`,
		"60":                       `should look like "60/1m"`,
		"OFF":                      `should look like "60/1m"`,
		"/1m":                      `"" is not a number from 1 to 1000000`,
		"0/1m":                     `"0" is not a number`,
		"-1/1m":                    `"-1" is not a number`,
		"+1/1m":                    `"+1" is not a number`,
		"1.5/1m":                   `"1.5" is not a number`,
		"1000001/1m":               "is not a number from 1 to 1000000",
		"60/":                      "whole seconds from 1s to 1d",
		"60/0s":                    "whole seconds from 1s to 1d",
		"60/500ms":                 "whole seconds from 1s to 1d",
		"60/1500ms":                "whole seconds from 1s to 1d",
		"60/2d":                    "whole seconds from 1s to 1d",
		"60/25h":                   "whole seconds from 1s to 1d",
		"60/minute":                "whole seconds from 1s to 1d",
		"60/1m/1m":                 "whole seconds from 1s to 1d",
		"60/-1m":                   "whole seconds from 1s to 1d",
		"60/+1m":                   "whole seconds from 1s to 1d",
		"60/ 1m":                   "whole seconds from 1s to 1d",
		"60/99999999999999999999m": "whole seconds from 1s to 1d",
	} {
		_, err := limit.Parse(in)
		require.ErrorContains(t, err, message, in)
	}
}

func TestRate_String(t *testing.T) {
	for want, r := range map[string]limit.Rate{
		"off":     {},
		"60/1m":   {60, time.Minute},
		"60/2h":   {60, 2 * time.Hour},
		"5/90s":   {5, 90 * time.Second},
		"500/1d":  {500, 24 * time.Hour},
		"500/12h": {500, 12 * time.Hour},
	} {
		require.Equal(t, want, r.String())
	}
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		r, err := limit.Parse(s)
		if err != nil {
			return
		}
		if !r.IsOff() {
			require.Positive(t, r.Count)
			require.GreaterOrEqual(t, r.Per, time.Second)
			require.LessOrEqual(t, r.Per, 24*time.Hour)
		}
		again, err := limit.Parse(r.String())
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}

func TestParseRates(t *testing.T) {
	r, err := limit.ParseRates(map[string]string{"token": "60/1m", "read_user": "off", "users": "500/1d", "failed_source": "9/s"})
	require.NoError(t, err)
	rate, ok := r.Get(limit.Token)
	require.True(t, ok)
	require.Equal(t, limit.Rate{Count: 60, Per: time.Minute}, rate)
	rate, ok = r.Get(limit.ReadUser)
	require.True(t, ok)
	require.True(t, rate.IsOff())
	_, ok = r.Get(limit.Read)
	require.False(t, ok)
	_, ok = (*limit.Rates)(nil).Get(limit.Read)
	require.False(t, ok)

	for _, c := range []struct {
		in      map[string]string
		message string
	}{
		{map[string]string{"tokens": "60/1m"}, `there is no limit "tokens": there are token, token_user, read`},
		{map[string]string{"token": "60"}, `token: rate "60" should look like "60/1m"`},
		{map[string]string{"users": "60/1h"}, `users: it is counted by the day, so "60/1h" should look like "500/1d"`},
	} {
		_, err := limit.ParseRates(c.in)
		require.ErrorContains(t, err, c.message)
	}
	_, err = limit.ParseOverrides(map[string]string{"failed_source": "9/s"})
	require.ErrorContains(t, err, "only be set for the installation")
	_, err = limit.ParseOverrides(map[string]string{"failed": "9/s", "users_domain": "off"})
	require.NoError(t, err)
}

func TestDefaults_AreComplete(t *testing.T) {
	for _, name := range limit.Names {
		r, err := limit.ParseRates(map[string]string{name: "1/1d"})
		require.NoError(t, err, name)
		require.NotNil(t, r)
	}
	r := limit.Defaults()
	for p := limit.Token; p <= limit.UsersDomain; p++ {
		rate, ok := r.Get(p)
		require.True(t, ok, p)
		require.Equal(t, p >= limit.Users, rate.IsOff(), p)
	}
}
