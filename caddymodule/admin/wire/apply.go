// SPDX-License-Identifier: MIT

package wire

// Change is a change that apply makes or would make.
type Change struct {
	// Action is "create", "change" or "delete".
	Action string `json:"action"`
	ID     string `json:"id,omitempty"`
	Name   string `json:"name"`
	// Fields are the fields that differ.
	Fields   []FieldChange `json:"fields,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
	// ClientSecret is the secret of a new application, shown once.
	ClientSecret string `json:"client_secret,omitempty"`
}

// FieldChange is a field's value before and after. Secrets are not shown.
type FieldChange struct {
	Field string `json:"field"`
	From  any    `json:"from"`
	To    any    `json:"to"`
}

// Actions of a Change.
const (
	ActionCreate = "create"
	ActionChange = "change"
	ActionDelete = "delete"
)

// Applied is the answer to PUT applications/apply.
type Applied struct {
	DryRun    bool      `json:"dry_run"`
	Changes   []*Change `json:"changes"`
	Unchanged int       `json:"unchanged"`
}
