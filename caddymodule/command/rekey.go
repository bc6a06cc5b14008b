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
		Short: "Re-encrypts everything with the first secret, so that the others can be removed",
		Long: `Re-encrypts users, credentials at Meet, denied addresses and notes with the first
secret, so that the other secrets can be removed. It only counts what needs the
application to move: client secrets and refresh tokens. Running it again does no
harm. "meet status" then shows which keys are safe to remove.`,
		Args: noArguments,
		RunE: online(func(c *console, _ []string) error {
			stop := c.poll(c.rekeyProgress)
			body, _, err := c.admin.call(c.ctx, request{method: http.MethodPost, path: "secrets/rekey", slow: true})
			stop()
			if err != nil {
				return err
			}
			return printAnswer(c, body, c.printRekeyed)
		}),
	}
}

func (c *console) printRekeyed(done *wire.Rekeyed) error {
	rows := [][]string{{"KEY", "STATE"}}
	for _, k := range done.Keys {
		rows = append(rows, []string{k.ID, keyText(k)})
	}
	if err := c.table(rows); err != nil {
		return err
	}
	return c.write(fmt.Sprintf("\n%s records checked.\n", humanize.Comma(int64(done.Records))))
}

func (c *console) rekeyProgress(ctx context.Context) string {
	var now wire.Rekeying
	if _, err := c.admin.get(ctx, "secrets/rekey", nil, &now); err != nil || !now.Running {
		return ""
	}
	return humanize.Comma(int64(now.Records)) + " records checked"
}
