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

// completionTimeout bounds what a shell waits for.
const completionTimeout = 2 * time.Second

// listFlags are the lists of an application: --domain sets the list; when
// editing, --add-domain and --remove-domain change it.
var listFlags = []struct{ flag, field, what string }{
	{"domain", "domains", "Mail domain it may act for: example.org, .example.org for all below, * for whatever Meet allows"},
	{"scope", "scopes", "What its tokens may do, such as rooms:create"},
	{"alias", "aliases", "Further client id, such as the one it has at Meet"},
	{"deny", "denied_mails", "Mail address it may never act for"},
	{"network", "networks", "Address or range (CIDR) it may call from"},
}

// addApplicationFlags adds the flags that set fields of an application.
func addApplicationFlags(cmd *cobra.Command, editing bool) {
	flags := cmd.Flags()
	flags.String("name", "", "Name, for people")
	flags.String("type", "", "What /identity/source shows (default: classic)")
	for _, l := range listFlags {
		flags.StringSlice(l.flag, nil, l.what+" (several: repeated, or separated by commas or spaces)")
		if editing {
			flags.StringSlice("add-"+l.flag, nil, "Add to the list of --"+l.flag)
			flags.StringSlice("remove-"+l.flag, nil, "Remove from the list of --"+l.flag)
		}
	}
	flags.Var(new(duration), "token-lifetime", "How long its access tokens live, such as 30m or 1d (default: as the gateway's)")
	flags.Bool("refresh", false, "Allow it refresh tokens")
	flags.String("access-level", "", "Access level of its rooms where it asks for none: trusted, restricted or public")
	flags.String("room-configuration", "", "Configuration of its rooms where it gives none: a JSON object")
	flags.Var(limits{}, "limit", "Rate limit of its own, as name=limit, such as read=600/1m (can be repeated)")
	flags.String("backend-client-id", "", "The client id it has at Meet (default: the gateway's own is used)")
	flags.Bool("backend-client-secret-stdin", false, "Read its client secret at Meet from standard input")
	flags.String("note", "", "Free text for operators")
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{
		tokens.ScopeRoomsList, tokens.ScopeRoomsRetrieve, tokens.ScopeRoomsCreate, tokens.ScopeRoomsUpdate, tokens.ScopeRoomsDelete,
	}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("access-level", cobra.FixedCompletions([]string{
		"trusted", "restricted", "public",
	}, cobra.ShellCompDirectiveNoFileComp))
	if editing {
		flags.Bool("no-backend", false, "Forget its credentials at Meet; the gateway's own are used")
		flags.StringSlice("no-limit", nil, "Remove the limit of this name, so that the gateway's holds (can be repeated)")
		flags.Int64("if-version", 0, "Only if this is still its version, as \"meet app show\" shows it")
		flags.VisitAll(func(f *pflag.Flag) { // a flag that is not given changes nothing: there is no default
			f.Usage, _, _ = strings.Cut(f.Usage, " (default:")
		})
	}
}

// conflictingFlags says which flags cannot be given together, or alone.
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
				return fmt.Errorf("--add-%s and --remove-%s are both given with %s: say one of them", l.flag, l.flag, v)
			}
		}
	}
	removed, _ := flags.GetStringSlice("no-limit") // there is none when creating
	for _, name := range removed {
		if _, set := c.limitsGiven()[name]; set {
			return fmt.Errorf("--limit and --no-limit are both given with %s: say one of them", name)
		}
	}
	secret, _ := flags.GetBool("backend-client-secret-stdin")
	forget, _ := flags.GetBool("no-backend")
	switch {
	case flags.Changed("backend-client-id") && !secret:
		return errors.New("--backend-client-id needs --backend-client-secret-stdin: the secret comes on standard input")
	case secret && !flags.Changed("backend-client-id"):
		return errors.New("--backend-client-secret-stdin needs --backend-client-id")
	case forget && flags.Changed("backend-client-id"):
		return errors.New("--no-backend forgets the credentials at Meet, so it cannot be given with --backend-client-id")
	}
	return nil
}

// applicationFlags are the fields that the flags set. old is the application
// that is edited, or nil.
func (c *console) applicationFlags(old *wire.Application) (map[string]any, error) {
	flags, fields := c.cmd.Flags(), map[string]any{}
	if err := c.conflictingFlags(); err != nil {
		return nil, err
	}
	for flag, field := range map[string]string{"name": "name", "type": "type", "note": "note"} {
		if flags.Changed(flag) {
			fields[field], _ = flags.GetString(flag)
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
		fields["refresh"], _ = flags.GetBool("refresh")
	}
	if err := c.limitFlags(fields, old); err != nil {
		return nil, err
	}
	if err := c.roomFlags(fields, old); err != nil {
		return nil, err
	}
	return fields, c.backendFlags(fields)
}

// limitFlags sets and removes limits one by one; the others stay.
func (c *console) limitFlags(fields map[string]any, old *wire.Application) error {
	flags := c.cmd.Flags()
	if !flags.Changed("limit") && !flags.Changed("no-limit") {
		return nil
	}
	limits := map[string]string{}
	if old != nil {
		maps.Copy(limits, old.Limits)
	}
	if flags.Lookup("no-limit") != nil {
		names, _ := flags.GetStringSlice("no-limit")
		for _, name := range names {
			if _, there := limits[name]; !there {
				return fmt.Errorf("--no-limit %s: it has no limit of this name (it has: %s)", name, orNone(strings.Join(sortedKeys(limits), ", ")))
			}
			delete(limits, name)
		}
	}
	maps.Copy(limits, c.limitsGiven())
	fields["limits"] = limits
	return nil
}

// listFlag is what a list becomes, and whether a flag changes it. To remove what is
// not there is an error: it is mostly a typo.
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

// listValues are what was given for a list, with one flag.
func (c *console) listValues(flag string) []string {
	given, _ := c.cmd.Flags().GetStringSlice(flag)
	list := []string{} // not null: null would be the default
	for _, v := range given {
		list = append(list, strings.Fields(v)...)
	}
	return list
}

// sameIn reports whether a value of a list is another way to write a.
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

// limits is the flag --limit: limits by name.
type limits map[string]string

// Set implements pflag.Value. Several are separated by commas.
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

// limitsGiven are those of --limit.
func (c *console) limitsGiven() map[string]string {
	if flag := c.cmd.Flags().Lookup("limit"); flag != nil {
		given, _ := flag.Value.(limits)
		return given
	}
	return nil
}

// listOf is a list of the application as texts.
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
		rooms.AccessLevel, _ = flags.GetString("access-level")
	}
	if flags.Changed("room-configuration") {
		text, _ := flags.GetString("room-configuration")
		if text != "" && !json.Valid([]byte(text)) {
			return errors.New("--room-configuration is not JSON")
		}
		rooms.Configuration = json.RawMessage(text)
	}
	fields["room_defaults"] = rooms
	return nil
}

func (c *console) backendFlags(fields map[string]any) error {
	flags := c.cmd.Flags()
	if forget, _ := flags.GetBool("no-backend"); forget {
		fields["backend"] = nil
		return nil
	}
	if !flags.Changed("backend-client-id") {
		return nil
	}
	id, _ := flags.GetString("backend-client-id")
	secret, err := c.readSecret("Client secret at Meet")
	if err != nil {
		return fmt.Errorf("--backend-client-secret-stdin: %w", err)
	}
	fields["backend"] = map[string]string{"client_id": id, "client_secret": secret}
	return nil
}

func appEditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "edit <application> [flags]",
		Short: "Changes an application; it acts on live tokens at once",
		Example: `  meet-gateway meet app edit Calendar --add-domain example.net
  meet-gateway meet app edit Calendar --scope rooms:list,rooms:retrieve`,
		Args:              oneApplication,
		ValidArgsFunction: completeApplications,
		RunE:              online(editCommand),
	}
	addApplicationFlags(cmd, true)
	return cmd
}

// editCommand writes only over the version it has read, so that a change in
// between is not lost.
func editCommand(c *console, args []string) error {
	if err := c.conflictingFlags(); err != nil { // before anybody is asked
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
			return &wire.Problem{Status: http.StatusPreconditionFailed, Detail: fmt.Sprintf("its version is now %d; look at it again with meet app show", app.Version)}
		}
		fields, err := c.applicationFlags(app)
		if err != nil {
			return err
		}
		if len(fields) == 0 {
			return errors.New("nothing to change: say what with a flag, see --help")
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
		texts[i] = string(m) // its String hides it
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

func text(d tokens.Duration) string { return time.Duration(d).String() }
