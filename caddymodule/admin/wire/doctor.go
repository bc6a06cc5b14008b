// SPDX-License-Identifier: MIT

package wire

// Finding is a problem that the doctor found.
type Finding struct {
	// Check names the check, such as "redis_eviction"; docs/doctor.md lists them all.
	Check string `json:"check"`
	// About names the server of Redis, gateway, site, Meet or application concerned.
	About string `json:"about,omitempty"`
	// Cause is the problem, Fix the configuration line or the command that fixes it.
	Cause string `json:"cause"`
	Fix   string `json:"fix"`
}

// Diagnosis is the answer to GET doctor.
type Diagnosis struct {
	// Healthy is true if nothing was found.
	Healthy  bool      `json:"healthy"`
	Checks   int       `json:"checks"`
	Findings []Finding `json:"findings"`
	// Unfinished lists checks that did not end in time.
	Unfinished []string `json:"unfinished,omitempty"`
}
