// SPDX-License-Identifier: MIT

package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// listFlags are the lists of an application. --domain replaces the list; edit also has
// --add-domain and --remove-domain.
var listFlags = []struct{ flag, field, what string }{
	{"domain", "domains", "Mail domain it may act for: example.org, .example.org for all subdomains, * for all that Meet allows"},
	{"scope", "scopes", "What its tokens may do, such as rooms:create"},
	{"alias", "aliases", "Additional client id, such as the one at Meet"},
	{"deny", "denied_mails", "Mail address that it may not act for"},
	{"network", "networks", "Address or range (CIDR) it may call from"},
}

// addApplicationFlags adds the flags that set fields of an application.
func addApplicationFlags(cmd *cobra.Command, editing bool) {
	flags := cmd.Flags()
	flags.String("name", "", "Name, for people")
	flags.String("type", "", "What /identity/source shows (default: classic)")
	for _, l := range listFlags {
		flags.StringSlice(l.flag, nil, l.what+" (repeat, or separate by commas or spaces)")
		if editing {
			flags.StringSlice("add-"+l.flag, nil, "Add to the list of --"+l.flag)
			flags.StringSlice("remove-"+l.flag, nil, "Remove from the list of --"+l.flag)
		}
	}
	flags.Var(new(duration), "token-lifetime", "Lifetime of its access tokens, such as 30m or 1d (default: the gateway's)")
	flags.Bool("refresh", false, "Issue refresh tokens to it")
	flags.String("access-level", "", "Default access level of its rooms: trusted, restricted or public")
	flags.String("room-configuration", "", "Default configuration of its rooms, a JSON object")
	flags.Var(limits{}, "limit", "Rate limit of its own, as name=limit, such as read=600/1m (can be repeated)")
	flags.String("backend-client-id", "", "Its client id at Meet (default: the gateway's own)")
	flags.Bool("backend-client-secret-stdin", false, "Read its client secret at Meet from standard input")
	flags.String("note", "", "Free text for operators")
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{
		tokens.ScopeRoomsList, tokens.ScopeRoomsRetrieve, tokens.ScopeRoomsCreate, tokens.ScopeRoomsUpdate, tokens.ScopeRoomsDelete,
	}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("access-level", cobra.FixedCompletions([]string{
		"trusted", "restricted", "public",
	}, cobra.ShellCompDirectiveNoFileComp))
	if editing {
		flags.Bool("no-backend", false, "Delete its credentials at Meet and use the gateway's own")
		flags.StringSlice("no-limit", nil, "Remove the limit of this name, so that the gateway's applies (can be repeated)")
		flags.Int64("if-version", 0, "Change it only if this is its version in \"meet app show\"")
		flags.VisitAll(func(f *pflag.Flag) { // an omitted flag changes nothing, so there is no default
			f.Usage, _, _ = strings.Cut(f.Usage, " (default:")
		})
	}
}

// conflictingFlags refuses flags that contradict each other or are incomplete.
func (c *console) conflictingFlags() error {
	flags := c.cmd.Flags()
	for _, l := range listFlags {
		for _, other := range []string{"add-" + l.flag, "remove-" + l.flag} {
			if flags.Changed(l.flag) && flags.Changed(other) {
				return fmt.Errorf("--%s sets the whole list, so it cannot be given with --%s", l.flag, other)
			}
		}
	}
	for _, l := range listFlags {
		for _, v := range c.listValues("add-" + l.flag) {
			if slices.ContainsFunc(c.listValues("remove-"+l.flag), sameIn(l.field, v)) {
				return fmt.Errorf("--add-%s and --remove-%s are both given with %s", l.flag, l.flag, v)
			}
		}
	}
	removed, _ := flags.GetStringSlice("no-limit") // create does not have it
	for _, name := range removed {
		if _, set := c.limitsGiven()[name]; set {
			return fmt.Errorf("--limit and --no-limit are both given with %s", name)
		}
	}
	secret, forget := c.isSet("backend-client-secret-stdin"), c.isSet("no-backend")
	switch {
	case flags.Changed("backend-client-id") && !secret:
		return errors.New("--backend-client-id needs --backend-client-secret-stdin: the secret is read from standard input")
	case secret && !flags.Changed("backend-client-id"):
		return errors.New("--backend-client-secret-stdin needs --backend-client-id")
	case forget && flags.Changed("backend-client-id"):
		return errors.New("--no-backend deletes the credentials at Meet, so it cannot be given with --backend-client-id")
	}
	return nil
}

// applicationFlags returns the fields that the flags set. old is the edited application, or
// nil.
func (c *console) applicationFlags(old *wire.Application) (map[string]any, error) {
	flags, fields := c.cmd.Flags(), map[string]any{}
	if err := c.conflictingFlags(); err != nil {
		return nil, err
	}
	for _, name := range []string{"name", "type", "note"} {
		if flags.Changed(name) {
			fields[name] = c.text(name)
		}
	}
	for _, l := range listFlags {
		list, changed, err := c.listFlag(l.flag, l.field, old)
		if err != nil {
			return nil, err
		}
		if changed {
			fields[l.field] = list
		}
	}
	if flags.Changed("token-lifetime") {
		fields["token_lifetime"] = flags.Lookup("token-lifetime").Value.String()
	}
	if flags.Changed("refresh") {
		fields["refresh"] = c.isSet("refresh")
	}
	if err := c.limitFlags(fields, old); err != nil {
		return nil, err
	}
	if err := c.roomFlags(fields, old); err != nil {
		return nil, err
	}
	return fields, c.backendFlags(fields)
}

// limitFlags changes the given limits and keeps the others.
func (c *console) limitFlags(fields map[string]any, old *wire.Application) error {
	flags := c.cmd.Flags()
	if !flags.Changed("limit") && !flags.Changed("no-limit") {
		return nil
	}
	limits := map[string]string{}
	if old != nil {
		maps.Copy(limits, old.Limits)
	}
	removed, _ := flags.GetStringSlice("no-limit") // create does not have it
	for _, name := range removed {
		if _, there := limits[name]; !there {
			return fmt.Errorf("--no-limit %s: it has no limit of this name (it has: %s)", name, orNone(strings.Join(sortedKeys(limits), ", ")))
		}
		delete(limits, name)
	}
	maps.Copy(limits, c.limitsGiven())
	fields["limits"] = limits
	return nil
}

// listFlag returns the new list and whether a flag changes it. Removing an absent element
// is an error, because it is usually a typo.
func (c *console) listFlag(flag, field string, old *wire.Application) ([]string, bool, error) {
	flags := c.cmd.Flags()
	if flags.Changed(flag) {
		return c.listValues(flag), true, nil
	}
	if old == nil || !flags.Changed("add-"+flag) && !flags.Changed("remove-"+flag) {
		return nil, false, nil
	}
	list, drop := listOf(old, field), c.listValues("remove-"+flag)
	for _, v := range c.listValues("add-" + flag) {
		if !slices.ContainsFunc(list, sameIn(field, v)) {
			list = append(list, v)
		}
	}
	for _, v := range drop {
		if !slices.ContainsFunc(list, sameIn(field, v)) {
			return nil, false, fmt.Errorf("--remove-%s %s: it is not in the list (%s)", flag, v, orNone(strings.Join(list, ", ")))
		}
	}
	list = slices.DeleteFunc(list, func(v string) bool { return slices.ContainsFunc(drop, sameIn(field, v)) })
	return list, true, nil
}

// listValues returns the values of a list flag.
func (c *console) listValues(flag string) []string {
	given, _ := c.cmd.Flags().GetStringSlice(flag)
	list := []string{} // null would mean the default
	for _, v := range given {
		list = append(list, strings.Fields(v)...)
	}
	return list
}

// sameIn returns a function that reports whether a value of the list equals a.
func sameIn(field, a string) func(string) bool {
	network := func(s string) string {
		if address, err := netip.ParseAddr(s); err == nil {
			return netip.PrefixFrom(address, address.BitLen()).String()
		}
		if prefix, err := netip.ParsePrefix(s); err == nil {
			return prefix.Masked().String()
		}
		return s
	}
	switch field {
	case "networks":
		return func(b string) bool { return network(a) == network(b) }
	case "aliases":
		return func(b string) bool { return a == b }
	}
	return func(b string) bool { return strings.EqualFold(a, b) }
}

// limits is the value of --limit: limits by name.
type limits map[string]string

// Set implements pflag.Value. Commas separate several limits.
func (l limits) Set(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(one, "=")
		if !ok || name == "" {
			return errors.New("it must be name=limit")
		}
		if before, given := l[name]; given && before != value {
			return fmt.Errorf("%s is given twice, as %s and as %s", name, before, value)
		}
		l[name] = value
	}
	return nil
}

// String implements pflag.Value.
func (l limits) String() string { return "" }

// Type implements pflag.Value.
func (l limits) Type() string { return "name=limit" }

// limitsGiven returns the values of --limit.
func (c *console) limitsGiven() map[string]string {
	if flag := c.cmd.Flags().Lookup("limit"); flag != nil {
		given, _ := flag.Value.(limits)
		return given
	}
	return nil
}

// listOf returns a list of the application as texts.
func listOf(s *wire.Application, field string) []string {
	list := []string{}
	switch field {
	case "domains":
		list = append(list, s.Domains...)
	case "scopes":
		list = append(list, s.Scopes...)
	case "aliases":
		list = append(list, s.Aliases...)
	case "denied_mails":
		for _, m := range s.DeniedMails {
			list = append(list, string(m))
		}
	case "networks":
		for _, p := range s.Networks {
			list = append(list, p.String())
		}
	}
	return list
}

func (c *console) roomFlags(fields map[string]any, old *wire.Application) error {
	flags := c.cmd.Flags()
	if !flags.Changed("access-level") && !flags.Changed("room-configuration") {
		return nil
	}
	var rooms tokens.RoomDefaults
	if old != nil {
		rooms = old.RoomDefaults
	}
	if flags.Changed("access-level") {
		rooms.AccessLevel = c.text("access-level")
	}
	if flags.Changed("room-configuration") {
		text := c.text("room-configuration")
		if text != "" && !json.Valid([]byte(text)) {
			return errors.New("--room-configuration is not JSON")
		}
		rooms.Configuration = json.RawMessage(text)
	}
	fields["room_defaults"] = rooms
	return nil
}

func (c *console) backendFlags(fields map[string]any) error {
	if c.isSet("no-backend") {
		fields["backend"] = nil
		return nil
	}
	if !c.cmd.Flags().Changed("backend-client-id") {
		return nil
	}
	secret, err := c.readSecret("Client secret at Meet")
	if err != nil {
		return fmt.Errorf("--backend-client-secret-stdin: %w", err)
	}
	fields["backend"] = map[string]string{"client_id": c.text("backend-client-id"), "client_secret": secret}
	return nil
}

func appEditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "edit <application> [flags]",
		Short: "Changes an application, with effect on issued tokens at once",
		Example: `  meet-gateway meet app edit Calendar --add-domain example.net
  meet-gateway meet app edit Calendar --scope rooms:list,rooms:retrieve`,
		Args:              oneApplication,
		ValidArgsFunction: completeApplications,
		RunE:              online(editCommand),
	}
	addApplicationFlags(cmd, true)
	return cmd
}

// editCommand replaces only the version that it has read, so that no concurrent change is
// lost.
func editCommand(c *console, args []string) error {
	if err := c.conflictingFlags(); err != nil { // before the gateway is asked
		return err
	}
	const tries = 5
	version, _ := c.cmd.Flags().GetInt64("if-version")
	for try := 1; ; try++ {
		app, _, err := c.find(args[0])
		if err != nil {
			return err
		}
		if version != 0 && app.Version != version {
			return &wire.Problem{Status: http.StatusPreconditionFailed, Detail: fmt.Sprintf("its version is now %d; see meet app show", app.Version)}
		}
		fields, err := c.applicationFlags(app)
		if err != nil {
			return err
		}
		if len(fields) == 0 {
			return errors.New("no flag says what to change; see --help")
		}
		err = c.patch(app, fields, wire.ETag(app.Application), "changed")
		p, refused := errors.AsType[*wire.Problem](err)
		again := refused && p.Status == http.StatusPreconditionFailed && version == 0 && !c.cmd.Flags().Changed("backend-client-id")
		if !again || try == tries {
			return err
		}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func joinMails(mails []tokens.Mail) string {
	texts := make([]string, len(mails))
	for i, m := range mails {
		texts[i] = string(m) // String hides the address
	}
	return strings.Join(texts, ", ")
}

func joinPrefixes(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}

func lifetime(d tokens.Duration) string { return time.Duration(d).String() }
