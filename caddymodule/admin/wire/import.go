// SPDX-License-Identifier: MIT

package wire

// ImportReport tells what an import did, or would do.
type ImportReport struct {
	DryRun bool `json:"dry_run"`
	// Refused reports, of a dry run, that importing would be refused without any_domain.
	Refused bool `json:"refused,omitempty"`
	// Records counts everything in the file, Ignored what is no application by model.
	Records int            `json:"records"`
	Ignored map[string]int `json:"ignored,omitempty"`
	// Taken, Changed and Skipped count the applications.
	Taken   int `json:"taken"`
	Changed int `json:"changed"`
	Skipped int `json:"skipped"`
	// Warnings are about the file as a whole.
	Warnings []string `json:"warnings,omitempty"`
	// Applications are in the order of the file.
	Applications []ImportedApplication `json:"applications"`
}

// ImportedApplication tells what became of one application of the file.
type ImportedApplication struct {
	// Record is its place in the file, from 1.
	Record   int    `json:"record"`
	ClientID string `json:"client_id,omitempty"`
	Name     string `json:"name,omitempty"`
	// ID is its id here, once it has one.
	ID string `json:"id,omitempty"`
	// Outcome is "taken", "changed" or "skipped".
	Outcome string `json:"outcome"`
	// Reason tells why it was skipped.
	Reason string `json:"reason,omitempty"`
	// Fields are those that were changed, or that differ where it was skipped.
	Fields []string `json:"fields,omitempty"`
	// Notes tell what is not as it was at Meet.
	Notes []string `json:"notes,omitempty"`
}

// Outcomes of an imported application.
const (
	OutcomeTaken   = "taken"
	OutcomeChanged = "changed"
	OutcomeSkipped = "skipped"
)
