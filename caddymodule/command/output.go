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

// printJSON writes an answer for scripts and for reading.
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

// table writes rows in columns. Cells hold what somebody typed once: what could
// steer a terminal is taken out.
func (c *console) table(rows [][]string) error {
	width := 0
	for _, row := range rows {
		width = max(width, len(row))
	}
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, width) // all rows have all cells, or else columns end where one is missing
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

// oneLine replaces control characters, tabs among them, by spaces.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// instant is a time as people read it, with the zone of this machine.
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

// terminal returns the file behind a stream if it is a terminal.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks before something that cannot be undone. Scripts, which have no
// terminal, are not asked.
func (c *console) confirm(question string) error {
	if _, ok := terminal(c.in); !ok {
		return nil
	}
	if yes, _ := c.cmd.Flags().GetBool("yes"); yes {
		return nil
	}
	fmt.Fprintf(c.errOut, "%s [y/N] ", oneLine(question))
	answer, _ := bufio.NewReader(c.in).ReadString('\n') // nothing is no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done")
}

// maxSecretLine bounds a secret typed or piped in.
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
		return "", errors.New("nothing came on standard input")
	}
	return line, nil
}
