// SPDX-License-Identifier: MIT

package wire

// Change is one step of bringing the applications to what a file says.
type Change struct {
	// Action is "create", "change" or "delete"; what is as it should be is not listed.
	Action string `json:"action"`
	ID     string `json:"id,omitempty"`
	Name   string `json:"name"`
	// Fields tell what differs.
	Fields   []FieldChange `json:"fields,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
	// ClientSecret is that of an application that was created, once.
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
