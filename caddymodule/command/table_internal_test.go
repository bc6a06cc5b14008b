// SPDX-License-Identifier: MIT

package command

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// A row with fewer cells does not break the columns of the other rows.
func TestTable_Aligns(t *testing.T) {
	var out bytes.Buffer
	c := &console{out: &out}
	require.NoError(t, c.table([][]string{
		{"PATH", "METHOD", "SCOPE", "POLICY"},
		{"/rooms/{id}/accesses", "GET", "rooms:accesses", "mail none"},
		{"/docs", "GET"},
		{"/rooms", "DELETE", "", "idempotent"},
	}))
	require.Equal(t, ""+
		"PATH                  METHOD  SCOPE           POLICY\n"+
		"/rooms/{id}/accesses  GET     rooms:accesses  mail none\n"+
		"/docs                 GET\n"+
		"/rooms                DELETE                  idempotent\n", out.String())
}
