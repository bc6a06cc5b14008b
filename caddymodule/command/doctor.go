// SPDX-License-Identifier: MIT

package command

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

// errFound is no failure: the doctor has found something, and said so.
var errFound = errors.New("something is wrong")

func doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Looks for what is wrong, and says how to fix it",
		Long: `Looks at the configuration, Redis, the other gateways, Meet and the applications,
and says of each thing that is wrong its cause and the line or command that mends
it. It changes nothing, prints no secret and takes less than five seconds. Exit
status: 0 nothing is wrong; 1 something is; 3 the gateway or Redis cannot be
reached.`,
		Args: noArguments,
		RunE: online(func(c *console, _ []string) error {
			var d wire.Diagnosis
			body, err := c.admin.get(c.ctx, "doctor", nil, &d)
			if err != nil {
				return err
			}
			if c.json {
				err = c.printJSON(body)
			} else {
				err = c.printDiagnosis(&d)
			}
			unusable := slices.ContainsFunc(d.Findings, func(f wire.Finding) bool { return f.Check == "redis_unusable" })
			switch {
			case err != nil || d.Healthy:
				return err
			case unusable:
				return fmt.Errorf("%w: redis cannot be used", errNotReady)
			}
			return errFound
		}),
	}
}

func (c *console) printDiagnosis(d *wire.Diagnosis) error {
	c.warn(d.Unfinished...)
	if d.Healthy {
		return c.write(fmt.Sprintf("Nothing is wrong: %d checks.\n", d.Checks))
	}
	for _, f := range d.Findings {
		title := f.Check
		if f.About != "" {
			title += ", " + f.About
		}
		if err := c.write(oneLine(title) + "\n    " + oneLine(f.Cause) + "\n    fix: " + oneLine(f.Fix) + "\n"); err != nil {
			return err
		}
	}
	return nil
}
