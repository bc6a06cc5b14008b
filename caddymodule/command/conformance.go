// SPDX-License-Identifier: MIT

package command

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/conformance"
)

// conformanceTime is the default of --timeout.
const conformanceTime = 3 * time.Minute

func conformanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "conformance --backend <url> --client-id <id> --client-secret-file <file> --mail <mail>",
		Short: "Compares a Meet with the version that this gateway was made for",
		Long: `Sends recorded requests to a running Meet, and reports which answers differ and what
that means for the gateway. Run it before you upgrade Meet, against a Meet of the new
version. With --gateway it tests a gateway, against docs/compatibility.md.

Without --write it changes nothing. It follows no redirects, and prints no secret and
no mail address. The secret is read from a file, the environment or standard input.

Exit status: 0 all answers are as recorded; 1 some differ, or the usage is wrong; 3
there is no answer.`,
		Example: `  meet-gateway meet conformance --backend https://meet.internal --host meet.example.org \
      --client-id calendar --client-secret-file /run/secrets/calendar --mail test@example.org`,
		Args: noArguments,
		RunE: command(runConformance),
	}
	flags := cmd.Flags()
	flags.String("backend", "", "The address of Meet or the gateway: https://host:port")
	flags.String("base-path", "", "The base path of the API (default: the path of --backend, or /external-api/v1.0)")
	flags.String("host", "", "The Host header: Meet's public name (default: that of --backend)")
	flags.String("forwarded-proto", "https", "The header X-Forwarded-Proto; empty sends none")
	flags.String("client-id", "", "An application with all scopes")
	flags.String("client-secret-file", "", "A file with its secret")
	flags.String("client-secret-env", "", "An environment variable with its secret")
	flags.Bool("client-secret-stdin", false, "Read its secret from standard input")
	flags.String("mail", "", "A user that it may act for")
	flags.String("second-mail", "", "Another user, who is not in --room")
	flags.String("refused-mail", "", "A mail address in a domain that it may not act for")
	flags.String("disabled-mail", "", "A user whose account is disabled")
	flags.String("shared-mail", "", "A mail address of two users")
	flags.String("unknown-mail", "", "A mail address of no user; only with --write, because Meet may create the user")
	flags.String("room", "", "The id of a room of --mail (default: the first of the list)")
	flags.Bool("write", false, "Also create rooms; Meet cannot delete them yet")
	flags.Bool("gateway", false, "The backend is a gateway")
	flags.String("junit", "", "Write a JUnit report to this file")
	flags.Var(new(duration), "timeout", "The maximum duration (default: 3m)")
	return cmd
}

func runConformance(c *console, _ []string) error {
	o, err := c.conformanceOptions()
	if err != nil {
		return err
	}
	limit := conformanceTime
	if d, ok := c.cmd.Flags().Lookup("timeout").Value.(*duration); ok && *d > 0 {
		limit = time.Duration(*d)
	}
	ctx, cancel := context.WithTimeout(c.ctx, limit)
	defer cancel()
	report, err := conformance.Run(ctx, o)
	if errors.Is(err, conformance.ErrUnreachable) {
		err = fmt.Errorf("%w at %s: %w", errUnanswered, o.Backend.Host, err)
	}
	if err != nil {
		// Without the file, a build server would show an old report or none.
		failed := err
		return errors.Join(failed, c.writeJUnit(func() ([]byte, error) { return conformance.JUnitFailed(failed) }))
	}
	if err := c.writeJUnit(report.JUnit); err != nil {
		return err
	}
	if c.json {
		err = c.marshal(struct {
			*conformance.Report
			Groups []conformance.Group `json:"groups"`
		}{report, report.Groups()})
	} else {
		err = c.printConformance(report)
	}
	if err == nil && len(report.Differ) > 0 {
		return errFound
	}
	return err
}

// errUnanswered means that the backend does not answer.
var errUnanswered = errors.New("nothing can be compared")

func (c *console) conformanceOptions() (conformance.Options, error) {
	o := conformance.Options{
		BasePath: c.text("base-path"), Host: c.text("host"), ForwardedProto: c.text("forwarded-proto"), ClientID: c.text("client-id"), Room: c.text("room"),
		Mail: c.text("mail"), SecondMail: c.text("second-mail"), RefusedMail: c.text("refused-mail"), DisabledMail: c.text("disabled-mail"),
		SharedMail: c.text("shared-mail"), UnknownMail: c.text("unknown-mail"), Write: c.isSet("write"), Gateway: c.isSet("gateway"),
	}
	for _, name := range []string{"backend", "client-id", "mail"} {
		if c.text(name) == "" {
			return o, fmt.Errorf("--%s is missing", name)
		}
	}
	u, err := url.Parse(c.text("backend"))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" {
		return o, errors.New("--backend must be an address such as https://meet.internal:8443")
	}
	o.Backend = u
	switch {
	case o.BasePath == "" && strings.Trim(u.Path, "/") != "":
		o.BasePath = u.EscapedPath()
	case o.BasePath == "":
		o.BasePath = "/external-api/v1.0"
	}
	o.BasePath = strings.TrimRight(o.BasePath, "/")
	if o.BasePath != "" && (!strings.HasPrefix(o.BasePath, "/") || strings.ContainsAny(o.BasePath, "?#{}% \r\n")) {
		return o, errors.New("--base-path must be a path such as /external-api/v1.0")
	}
	if strings.ContainsAny(o.Host+o.ForwardedProto, " \t\r\n/@") {
		return o, errors.New("--host must be a name, with a port unless it is the default one")
	}
	o.ClientSecret, err = c.conformanceSecret()
	return o, err
}

// conformanceSecret reads the secret from the place that the flags name.
func (c *console) conformanceSecret() (string, error) {
	file, variable, stdin := c.text("client-secret-file"), c.text("client-secret-env"), c.isSet("client-secret-stdin")
	if (file != "" && variable != "") || (stdin && file+variable != "") {
		return "", errors.New("give one of --client-secret-file, --client-secret-env and --client-secret-stdin")
	}
	switch {
	case file != "":
		return secretInFile("--client-secret-file", file)
	case variable != "":
		return secretInEnvironment("--client-secret-env", variable)
	case stdin:
		return c.readSecret("Client secret")
	}
	return "", errors.New("the secret is missing: --client-secret-file, --client-secret-env or --client-secret-stdin")
}

func (c *console) writeJUnit(report func() ([]byte, error)) error {
	name := c.text("junit")
	if name == "" {
		return nil
	}
	b, err := report()
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, b, 0o644); err != nil { //nolint:gosec // a build server may run as another user
		return fmt.Errorf("--junit: %w", err)
	}
	return nil
}

func (c *console) printConformance(report *conformance.Report) error {
	var b strings.Builder
	asked := report.Same + len(report.Differ)
	fmt.Fprintf(&b, "%s: %d of %d answers are as recorded", report.Backend, report.Same, asked)
	if len(report.Left) > 0 {
		fmt.Fprintf(&b, "; %s left out", english.Plural(len(report.Left), "line", ""))
	}
	b.WriteString("\n")
	for _, group := range report.Groups() {
		fmt.Fprintf(&b, "\n%s (%d)\n", group.Title, group.Lines)
		for _, result := range report.Differ {
			if result.Group != group.Name {
				continue
			}
			fmt.Fprintf(&b, "  %s: %s\n", result.Line, oneLine(result.Situation))
			for _, sentence := range result.Sentences() {
				fmt.Fprintf(&b, "      %s\n", oneLine(sentence))
			}
		}
	}
	for i, left := range report.Left {
		if i == 0 {
			b.WriteString("\nLeft out\n")
		}
		fmt.Fprintf(&b, "  %s: %s\n", left.Line, oneLine(left.Reason))
	}
	for i, id := range report.Made {
		if i == 0 {
			b.WriteString("\nCreated rooms\n")
		}
		fmt.Fprintf(&b, "  %s\n", id)
	}
	return c.write(b.String())
}
