// SPDX-License-Identifier: MIT

package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// show prints a resource of the gateway, and returns it.
func show[T any](c *console, path string, print func(*T) error) (*T, error) {
	v := new(T)
	body, err := c.admin.get(c.ctx, path, nil, v)
	if err != nil {
		return nil, err
	}
	if c.json {
		return v, c.printJSON(body)
	}
	return v, print(v)
}

// printAnswer prints an answer, with --json as it is and otherwise with print.
func printAnswer[T any](c *console, body []byte, print func(*T) error) error {
	if c.json {
		return c.printJSON(body)
	}
	v := new(T)
	if err := decodeAnswer(body, v); err != nil {
		return err
	}
	return print(v)
}

// marshal prints v as JSON.
func (c *console) marshal(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	return c.printJSON(body)
}

// printJSON prints JSON with indentation.
func (c *console) printJSON(body []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(body), "", "  "); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	out.WriteByte('\n')
	return c.write(out.String())
}

func (c *console) write(s string) error {
	if _, err := io.WriteString(c.out, s); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// table prints rows in columns, without control characters.
func (c *console) table(rows [][]string) error {
	width := 0
	for _, row := range rows {
		width = max(width, len(row))
	}
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, width) // tabwriter ends a column at a missing cell
		for i, cell := range row {
			cells[i] = oneLine(cell)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	var out strings.Builder
	for line := range strings.Lines(text.String()) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return c.write(out.String())
}

// oneLine replaces control characters by spaces.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// instant formats a time in the local time zone.
func instant(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05 -07:00")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// terminal returns the file of a stream if it is a terminal.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks the user to confirm. It does not ask without a terminal, as in a script.
func (c *console) confirm(question string) error {
	if _, ok := terminal(c.in); !ok {
		return nil
	}
	if c.isSet("yes") {
		return nil
	}
	fmt.Fprintf(c.errOut, "%s [y/N] ", oneLine(question))
	answer, _ := bufio.NewReader(c.in).ReadString('\n') // no answer means no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done")
}

// maxSecretLine bounds a secret on standard input.
const maxSecretLine = 4096

// readSecret reads one line, without echo on a terminal.
func (c *console) readSecret(prompt string) (string, error) {
	if f, ok := terminal(c.in); ok {
		fmt.Fprint(c.errOut, prompt+": ")
		line, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(c.errOut)
		if err != nil {
			return "", fmt.Errorf("reading from the terminal: %w", err)
		}
		return string(line), nil
	}
	line, err := bufio.NewReader(io.LimitReader(c.in, maxSecretLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading standard input: %w", err)
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if line == "" {
		return "", errors.New("standard input is empty")
	}
	return line, nil
}

// secretInFile reads a secret from a file; option names the option in errors.
func secretInFile(option, name string) (string, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w", option, err)
	}
	if secret := strings.TrimRight(string(b), "\r\n"); secret != "" {
		return secret, nil
	}
	return "", fmt.Errorf("%s: %s is empty", option, name)
}

// secretInEnvironment reads a secret from an environment variable.
func secretInEnvironment(option, name string) (string, error) {
	if secret := os.Getenv(name); secret != "" {
		return secret, nil
	}
	return "", fmt.Errorf("%s: the variable %s is not set, or empty", option, name)
}
