// SPDX-License-Identifier: MIT

package wire

// ImportReport is the result of an import.
type ImportReport struct {
	DryRun bool `json:"dry_run"`
	// Refused is true in a dry run if the import would be refused without any_domain.
	Refused bool `json:"refused,omitempty"`
	// Records counts all records of the file, Ignored those of other models, by model.
	Records int            `json:"records"`
	Ignored map[string]int `json:"ignored,omitempty"`
	// Taken, Changed and Skipped count the applications.
	Taken   int `json:"taken"`
	Changed int `json:"changed"`
	Skipped int `json:"skipped"`
	// Warnings concern the file as a whole.
	Warnings []string `json:"warnings,omitempty"`
	// Applications are in the order of the file.
	Applications []ImportedApplication `json:"applications"`
}

// ImportedApplication is the result for one application of the file.
type ImportedApplication struct {
	// Record is its position in the file, from 1.
	Record   int    `json:"record"`
	ClientID string `json:"client_id,omitempty"`
	Name     string `json:"name,omitempty"`
	// ID is its id at the gateway, if it has one.
	ID string `json:"id,omitempty"`
	// Outcome is "taken", "changed" or "skipped".
	Outcome string `json:"outcome"`
	// Reason is why it was skipped.
	Reason string `json:"reason,omitempty"`
	// Fields are those that were changed, or that differ if it was skipped.
	Fields []string `json:"fields,omitempty"`
	// Notes are differences from Meet.
	Notes []string `json:"notes,omitempty"`
}

// Outcomes of an imported application.
const (
	OutcomeTaken   = "taken"
	OutcomeChanged = "changed"
	OutcomeSkipped = "skipped"
)
