// SPDX-License-Identifier: MIT

package wire

// Finding is one thing that the doctor found to be wrong.
type Finding struct {
	// Check names what was looked at, such as "redis_eviction"; docs/doctor.md lists
	// all checks.
	Check string `json:"check"`
	// About is the gateway, site, Meet or application that it is about.
	About string `json:"about,omitempty"`
	// Cause says what is wrong, Fix the line or the command that fixes it.
	Cause string `json:"cause"`
	Fix   string `json:"fix"`
}

// Diagnosis is the answer to GET doctor.
type Diagnosis struct {
	// Healthy is true if nothing was found.
	Healthy  bool      `json:"healthy"`
	Checks   int       `json:"checks"`
	Findings []Finding `json:"findings"`
	// Unfinished says what could not be looked at in time.
	Unfinished []string `json:"unfinished,omitempty"`
}
