// SPDX-License-Identifier: MIT

package command

import (
	"context"
	"fmt"
	"net/http"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

func rekeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rekey",
		Short: "Moves what is kept to the first secret, so that the others can be removed",
		Long: `Moves what is kept to the first secret, so that the others can be removed: users,
credentials at Meet, denied addresses and notes. What applications alone can
move, their secrets and refresh tokens, is counted. Running it again does no
harm. "meet status" then tells which keys are safe to remove.`,
		Args: noArguments,
		RunE: online(func(c *console, _ []string) error {
			stop := c.poll(c.rekeyProgress)
			body, _, err := c.admin.call(c.ctx, request{method: http.MethodPost, path: "secrets/rekey", slow: true})
			stop()
			if err != nil || c.json {
				return c.orJSON(body, err)
			}
			var done wire.Rekeyed
			if err := decodeAnswer(body, &done); err != nil {
				return err
			}
			rows := [][]string{{"KEY", "STATE"}}
			for _, k := range done.Keys {
				rows = append(rows, []string{k.ID, keyText(k)})
			}
			if err := c.table(rows); err != nil {
				return err
			}
			return c.write(fmt.Sprintf("\n%s records looked at.\n", humanize.Comma(int64(done.Records))))
		}),
	}
}

func (c *console) orJSON(body []byte, err error) error {
	if err != nil {
		return err
	}
	return c.printJSON(body)
}

// rekeyProgress tells how far the gateway is.
func (c *console) rekeyProgress(ctx context.Context) string {
	var now wire.Rekeying
	if _, err := c.admin.get(ctx, "secrets/rekey", nil, &now); err != nil || !now.Running {
		return ""
	}
	return humanize.Comma(int64(now.Records)) + " records looked at"
}
