// SPDX-License-Identifier: MIT

package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/conformance"
)

// conformanceTime is how long all lines may take, unless --timeout says otherwise.
const conformanceTime = 3 * time.Minute

func conformanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "conformance --backend <url> --client-id <id> --client-secret-file <file> --mail <mail>",
		Short: "Compares a Meet with the one that this version of the gateway was made for",
		Long: `Asks a running Meet what was recorded of one, says which answers differ, and what
that means for a gateway in front of it. Run it before you upgrade Meet, against a
Meet of the new version. With --gateway it asks a gateway, and expects what
docs/compatibility.md says of it.

Without --write it changes nothing. It follows no redirect, and prints no secret and
no mail address. The secret comes from a file, the environment or standard input.

Exit status: 0 all answers are as recorded; 1 some differ, or the command was used
wrongly; 3 nothing answers.`,
		Example: `  meet-gateway meet conformance --backend https://meet.internal --host meet.example.org \
      --client-id calendar --client-secret-file /run/secrets/calendar --mail test@example.org`,
		Args: noArguments,
		RunE: command(runConformance),
	}
	flags := cmd.Flags()
	flags.String("backend", "", "Where Meet, or the gateway, is: https://host:port")
	flags.String("base-path", "", "Where the API is there (default: the path of --backend, or /external-api/v1.0)")
	flags.String("host", "", "The Host header: Meet's public name (default: that of --backend)")
	flags.String("forwarded-proto", "https", "The header X-Forwarded-Proto; empty sends none")
	flags.String("client-id", "", "An application with all scopes")
	flags.String("client-secret-file", "", "A file with its secret")
	flags.String("client-secret-env", "", "A variable of the environment with its secret")
	flags.Bool("client-secret-stdin", false, "Read its secret from standard input")
	flags.String("mail", "", "A user whom it may act for")
	flags.String("second-mail", "", "Another one, who is not in --room")
	flags.String("refused-mail", "", "An address whose domain it may not act for")
	flags.String("disabled-mail", "", "A user whose account is switched off")
	flags.String("shared-mail", "", "An address that two users have")
	flags.String("unknown-mail", "", "An address without a user; with --write only, since Meet may make a user")
	flags.String("room", "", "The id of a room of --mail (default: the first of the list)")
	flags.Bool("write", false, "Make rooms too; Meet cannot delete them yet")
	flags.Bool("gateway", false, "What is asked is a gateway")
	flags.String("junit", "", "Write a JUnit report to this file")
	flags.Var(new(duration), "timeout", "How long all of it may take (default: 3m)")
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
		// A build server shows an old report, or none, where the file is not written.
		failed := err
		return errors.Join(failed, c.writeJUnit(func() ([]byte, error) { return conformance.JUnitFailed(failed) }))
	}
	if err := c.writeJUnit(report.JUnit); err != nil {
		return err
	}
	if c.json {
		err = c.printConformanceJSON(report)
	} else {
		err = c.printConformance(report)
	}
	if err == nil && len(report.Differ) > 0 {
		return errFound
	}
	return err
}

// errUnanswered means that what was to be compared does not answer.
var errUnanswered = errors.New("nothing can be compared")

// conformanceOptions reads the flags.
func (c *console) conformanceOptions() (conformance.Options, error) {
	flags := c.cmd.Flags()
	text := func(name string) string { v, _ := flags.GetString(name); return v }
	o := conformance.Options{
		BasePath: text("base-path"), Host: text("host"), ForwardedProto: text("forwarded-proto"), ClientID: text("client-id"), Room: text("room"),
		Mail: text("mail"), SecondMail: text("second-mail"), RefusedMail: text("refused-mail"), DisabledMail: text("disabled-mail"),
		SharedMail: text("shared-mail"), UnknownMail: text("unknown-mail"),
	}
	o.Write, _ = flags.GetBool("write")
	o.Gateway, _ = flags.GetBool("gateway")
	for _, name := range []string{"backend", "client-id", "mail"} {
		if text(name) == "" {
			return o, fmt.Errorf("--%s is missing", name)
		}
	}
	u, err := url.Parse(text("backend"))
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
		return o, errors.New("--host must be a name, with a port if it is not the usual one")
	}
	o.ClientSecret, err = c.conformanceSecret()
	return o, err
}

// conformanceSecret reads the secret from one of the places where it may be.
func (c *console) conformanceSecret() (string, error) {
	flags := c.cmd.Flags()
	file, _ := flags.GetString("client-secret-file")
	variable, _ := flags.GetString("client-secret-env")
	stdin, _ := flags.GetBool("client-secret-stdin")
	if (file != "" && variable != "") || (stdin && file+variable != "") {
		return "", errors.New("name one of --client-secret-file, --client-secret-env and --client-secret-stdin")
	}
	switch {
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("--client-secret-file: %w", err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxSecretLine))
		if err != nil {
			return "", fmt.Errorf("--client-secret-file: %w", err)
		}
		if secret := strings.TrimRight(string(b), "\r\n"); secret != "" {
			return secret, nil
		}
		return "", errors.New("--client-secret-file: the file is empty")
	case variable != "":
		if secret := os.Getenv(variable); secret != "" {
			return secret, nil
		}
		return "", fmt.Errorf("--client-secret-env: %s is empty", variable)
	case stdin:
		return c.readSecret("Client secret")
	}
	return "", errors.New("the secret is missing: --client-secret-file, --client-secret-env or --client-secret-stdin")
}

func (c *console) writeJUnit(report func() ([]byte, error)) error {
	name, _ := c.cmd.Flags().GetString("junit")
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

func (c *console) printConformanceJSON(report *conformance.Report) error {
	b, err := json.Marshal(struct {
		*conformance.Report
		Groups []conformance.Group `json:"groups"`
	}{report, report.Groups()})
	if err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	return c.printJSON(b)
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
			b.WriteString("\nRooms that were made\n")
		}
		fmt.Fprintf(&b, "  %s\n", id)
	}
	return c.write(b.String())
}
