// SPDX-License-Identifier: MIT

package command

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

// errFound sets the exit status of a command that has printed findings.
var errFound = errors.New("something is wrong")

func doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Looks for problems and says how to fix them",
		Long: `Checks the configuration, Redis, the other gateways, Meet and the applications. For
each problem it prints the cause, and the line or command that fixes it. It changes
nothing, prints no secret and takes less than five seconds. Exit status: 0 no
problem; 1 problems were found; 3 the gateway or Redis cannot be reached.`,
		Args: noArguments,
		RunE: online(func(c *console, _ []string) error {
			d, err := show(c, "doctor", c.printDiagnosis)
			switch {
			case err != nil || d.Healthy:
				return err
			case slices.ContainsFunc(d.Findings, func(f wire.Finding) bool { return f.Check == "redis_unusable" }):
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
