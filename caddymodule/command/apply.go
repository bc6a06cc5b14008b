// SPDX-License-Identifier: MIT

package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

func appExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export [--prefix <prefix>]",
		Short: "Writes applications as YAML for apply, without secrets",
		Args:  noArguments,
		RunE:  online(exportCommand),
	}
	cmd.Flags().String("prefix", "", "Only applications whose names start with this, in any case")
	return cmd
}

// exportCommand writes applications one by one, because there may be a million.
func exportCommand(c *console, _ []string) error {
	resp, err := c.admin.do(c.ctx, request{method: http.MethodGet, path: "applications/export", query: url.Values{"prefix": {c.text("prefix")}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if c.json {
		if _, err := io.Copy(c.out, resp.Body); err != nil {
			return fmt.Errorf("the export is not complete: %w", err)
		}
		return nil
	}
	dec := json.NewDecoder(resp.Body)
	for range 3 { // {"applications": [
		if _, err := dec.Token(); err != nil {
			return fmt.Errorf("the answer cannot be read: %w", err)
		}
	}
	if !dec.More() {
		return c.write("applications: []\n")
	}
	if err := c.write("applications:\n"); err != nil {
		return err
	}
	for dec.More() {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fmt.Errorf("the export is not complete: %w", err)
		}
		item, err := yamlItem(raw)
		if err != nil {
			return err
		}
		if err := c.write(item); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("the export is not complete: %w", err)
	}
	return nil
}

// yamlItem converts a JSON object to an element of a YAML list and keeps the order. JSON is
// YAML, so only the style changes.
func yamlItem(object []byte) (string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(object, &doc); err != nil || len(doc.Content) != 1 {
		return "", fmt.Errorf("the answer cannot be written as YAML: %w", err)
	}
	blockStyle(doc.Content[0])
	list := yaml.Node{Kind: yaml.SequenceNode, Content: doc.Content}
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&list); err != nil {
		return "", fmt.Errorf("the answer cannot be written as YAML: %w", err)
	}
	return b.String(), nil
}

func blockStyle(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		n.Style = 0 // quoted only if necessary
	}
	for _, child := range n.Content {
		blockStyle(child)
	}
}

func appApplyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply <file>",
		Short: "Creates and changes applications to match a YAML file",
		Long: `Creates and changes applications to match a YAML (or JSON) file, for teams that keep
configuration in git. "meet app export" writes such a file:

  applications:
    - name: Calendar
      domains: [example.org, .example.org]
      scopes: [rooms:list, rooms:create]
      token_lifetime: 30m
      backend:
        client_id: calendar
        client_secret_file: /run/secrets/calendar   # or client_secret_env: NAME

An entry is matched to an application by its id, else by an alias, else by its
name. Omitted fields get their defaults, with two exceptions that stay as they are:
credentials at Meet ("backend: null" removes them), and active, so that only
"active: true" enables an application that was disabled by hand. New applications
are active. Their secrets are printed once, or written to the file of --secrets,
which must not exist yet and is readable by you alone. To use a secret of your own,
make it with "meet secret new" and name it in the entry: client_secret_file:
/run/secrets/calendar-client, or client_secret_env.

With --dry-run --exit-code, exit status 2 means that there are differences.`,
		Args: oneFile,
		RunE: online(applyCommand),
	}
	cmd.Flags().Bool("prune", false, "Delete all applications that are not in the file")
	cmd.Flags().Bool("dry-run", false, "Only show what would be done")
	cmd.Flags().Bool("exit-code", false, "With --dry-run: exit status 2 if there are differences")
	cmd.Flags().String("secrets", "", "A new file (mode 0600) for the secrets of new applications, instead of standard output")
	addYes(cmd)
	return cmd
}

// secretsFile creates the file for new secrets before any change, because a secret that
// cannot be written is lost.
func (c *console) secretsFile() (*os.File, error) {
	name := c.text("secrets")
	if name == "" {
		return nil, nil //nolint:nilnil // no file is wanted
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--secrets: %w", err)
	}
	return f, nil
}

// keepSecrets moves the secrets of an answer to the file, if there is one.
func keepSecrets(f *os.File, answer *wire.Applied) error {
	if f == nil {
		return nil
	}
	type credentials struct {
		Name         string `json:"name"`
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
	}
	list := []credentials{}
	for _, change := range answer.Changes {
		if change.ClientSecret != "" {
			list = append(list, credentials{change.Name, change.ID, change.ClientSecret})
			change.ClientSecret = ""
		}
	}
	enc := json.NewEncoder(f)
	enc.SetIndent("", "  ")
	if err := errors.Join(enc.Encode(list), f.Sync()); err != nil {
		return fmt.Errorf("--secrets: %w", err)
	}
	return nil
}

func applyCommand(c *console, args []string) error {
	file, err := c.open(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, wire.MaxApplyBody+1))
	if err != nil {
		return fmt.Errorf("reading %s: %w", args[0], err)
	}
	if len(text) > wire.MaxApplyBody {
		return fmt.Errorf("%s is larger than %s", args[0], humanize.IBytes(wire.MaxApplyBody))
	}
	f, err := readApplyFile(args[0], text)
	if err != nil {
		return err
	}
	prune, dryRun := c.isSet("prune"), c.isSet("dry-run")
	if prune && !dryRun {
		if err := c.confirm("Delete all applications that are not in " + args[0] + "?"); err != nil {
			return err
		}
	}
	secrets, err := c.secretsFile()
	if err != nil {
		return err
	}
	if secrets != nil {
		defer secrets.Close()
	}
	body, _, err := c.admin.call(c.ctx, request{
		method: http.MethodPut, path: "applications/apply", slow: true,
		body: map[string]any{"applications": f.applications, "prune": prune, "dry_run": dryRun},
	})
	if p, ok := errors.AsType[*wire.Problem](err); ok {
		return c.applyFailed(f, p, secrets)
	}
	if err != nil {
		return err
	}
	answer, err := c.printApplied(body, secrets)
	if err == nil && c.isSet("exit-code") && answer.DryRun && len(answer.Changes) > 0 {
		return errDiffers
	}
	return err
}

// applyFile is the content of a file, with its YAML nodes for line numbers.
type applyFile struct {
	name         string
	applications []map[string]any
	nodes        []*yaml.Node
}

// readApplyFile reads {applications: […]}. The gateway checks the values.
func readApplyFile(name string, text []byte) (*applyFile, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	list, err := applicationsOf(&doc)
	if err != nil {
		return nil, fmt.Errorf("%s%w", name, err)
	}
	f := &applyFile{name: name, nodes: list.Content, applications: []map[string]any{}}
	for _, node := range f.nodes {
		var entry map[string]any
		if err := node.Decode(&entry); err != nil || entry == nil {
			return nil, fmt.Errorf("%s:%d: an application must be a mapping with text keys, each once", name, node.Line)
		}
		if _, err := json.Marshal(entry); err != nil {
			return nil, fmt.Errorf("%s:%d: a key is not a text, or a number is not finite", name, node.Line)
		}
		if err := resolveSecret(entry, ""); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, node.Line, err)
		}
		if backend, ok := entry["backend"].(map[string]any); ok {
			if err := resolveSecret(backend, "backend: "); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, node.Line, err)
			}
		}
		f.applications = append(f.applications, entry)
	}
	return f, nil
}

// applicationsOf returns the list of the file. Errors start with the line.
func applicationsOf(doc *yaml.Node) (*yaml.Node, error) {
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New(": it must have the key applications with a list")
	}
	var list *yaml.Node
	top := doc.Content[0].Content
	for i := 0; i+1 < len(top); i += 2 {
		switch key := top[i]; {
		case key.Value != "applications":
			return nil, fmt.Errorf(":%d: unknown key %q; the file has one, applications", key.Line, key.Value)
		case list != nil:
			return nil, fmt.Errorf(":%d: duplicate key applications", key.Line)
		default:
			list = top[i+1]
		}
	}
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil, errors.New(": it must have the key applications with a list")
	}
	return list, nil
}

// resolveSecret replaces client_secret_file and client_secret_env, so that secrets need not
// be in git. Errors start with where.
func resolveSecret(backend map[string]any, where string) error {
	file, hasFile := backend["client_secret_file"]
	variable, hasVariable := backend["client_secret_env"]
	if _, plain := backend["client_secret"]; hasFile && hasVariable || plain && (hasFile || hasVariable) {
		return errors.New(where + "give one of client_secret, client_secret_file and client_secret_env")
	}
	var secret string
	var err error
	switch {
	case hasFile:
		secret, err = secretInFile(where+"client_secret_file", fmt.Sprint(file))
	case hasVariable:
		secret, err = secretInEnvironment(where+"client_secret_env", fmt.Sprint(variable))
	default:
		return nil
	}
	delete(backend, "client_secret_file")
	delete(backend, "client_secret_env")
	backend["client_secret"] = secret
	return err
}

var entryPath = regexp.MustCompile(`^applications\[(\d+)\]\.?([a-z_]*)`)

// line returns the line of a field of the request, and the field within its entry.
func (f *applyFile) line(field string) (int, string, bool) {
	m := entryPath.FindStringSubmatch(field)
	if m == nil {
		return 0, "", false
	}
	i, err := strconv.Atoi(m[1])
	if err != nil || i >= len(f.nodes) {
		return 0, "", false
	}
	node := f.nodes[i]
	rest := strings.TrimPrefix(strings.TrimPrefix(field, "applications["+m[1]+"]"), ".")
	for k := 0; k+1 < len(node.Content); k += 2 {
		if node.Content[k].Value == m[2] {
			return node.Content[k].Line, rest, true
		}
	}
	return node.Line, rest, true
}

// applyFailed adds the line of the file to an error. It first prints the changes made so far,
// because their secrets cannot be shown again.
func (c *console) applyFailed(f *applyFile, p *wire.Problem, secrets *os.File) error {
	if p.Done != nil {
		done, err := json.Marshal(p.Done)
		if err == nil {
			_, err = c.printApplied(done, secrets)
		}
		if err != nil {
			return err
		}
	}
	line, field, ok := f.line(p.Field)
	if !ok {
		return p
	}
	return &wire.Problem{Status: p.Status, Field: strings.TrimSuffix(fmt.Sprintf("%s:%d: %s", f.name, line, field), ": "), Detail: p.Detail}
}

// printApplied prints the changes as a diff.
func (c *console) printApplied(body []byte, secrets *os.File) (*wire.Applied, error) {
	answer := new(wire.Applied)
	if err := decodeAnswer(body, answer); err != nil {
		return nil, err
	}
	if err := keepSecrets(secrets, answer); err != nil {
		return nil, err
	}
	if c.json {
		if secrets != nil {
			var err error
			if body, err = json.Marshal(answer); err != nil {
				return nil, fmt.Errorf("encoding the result: %w", err)
			}
		}
		return answer, c.printJSON(body)
	}
	signs := map[string]string{wire.ActionCreate: "+", wire.ActionChange: "~", wire.ActionDelete: "-"}
	counts := map[string]int{}
	var b strings.Builder
	for _, change := range answer.Changes {
		counts[change.Action]++
		title := signs[change.Action] + " " + oneLine(change.Name)
		if change.ID != "" {
			title += " (" + change.ID + ")"
		}
		b.WriteString(title + "\n")
		for _, f := range change.Fields {
			if change.Action == wire.ActionCreate {
				fmt.Fprintf(&b, "    %s: %s\n", f.Field, shownValue(f.To))
				continue
			}
			fmt.Fprintf(&b, "    %s: %s -> %s\n", f.Field, shownValue(f.From), shownValue(f.To))
		}
		for _, w := range change.Warnings {
			c.warn(change.Name + ": " + w)
		}
		if change.ClientSecret != "" {
			fmt.Fprintf(&b, "    client id:     %s\n    client secret: %s\n", change.ID, change.ClientSecret)
		}
	}
	fmt.Fprintf(&b, "%d created, %d changed, %d deleted, %d unchanged.", counts[wire.ActionCreate], counts[wire.ActionChange], counts[wire.ActionDelete], answer.Unchanged)
	if answer.DryRun {
		b.WriteString(" Dry run: nothing was changed.")
	} else if counts[wire.ActionCreate] > 0 && secrets != nil {
		b.WriteString("\nTheir secrets are in " + secrets.Name() + ".")
	} else if counts[wire.ActionCreate] > 0 {
		b.WriteString("\nStore the secrets now. They cannot be shown again.")
	}
	return answer, c.write(b.String() + "\n")
}

// shownValue formats a value as JSON on one line.
func shownValue(v any) string {
	if _, word := v.(bool); !word && wire.IsEmpty(v) {
		return "(none)"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return oneLine(string(b))
}
