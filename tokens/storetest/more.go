// SPDX-License-Identifier: MIT

package storetest

import "testing"

// runMore runs what the suite says about requests, rather than about tokens.
func runMore(t *testing.T, open Opener) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Opener){
		"Idempotency":              testIdempotency,
		"IdempotencyRace":          testIdempotencyRace,
		"IdempotencySecretRotated": testIdempotencySecretRotated,
		"IdempotencyOutage":        testIdempotencyOutage,
		"AnotherSecret":            testAnotherSecret,
		"Limits":                   testLimits,
		"LimitsOutage":             testLimitsOutage,
		"Fence":                    testFence,
		"FenceRace":                testFenceRace,
		"Slugs":                    testSlugs,
		"Adopt":                    testAdopt,
		"AdoptRace":                testAdoptRace,
		"AdoptNotAgain":            testAdoptNotAgain,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}
