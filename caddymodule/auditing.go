// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/logging"
	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
	"github.com/meet-gateway/meet-gateway/caddymodule/option"
	"github.com/meet-gateway/meet-gateway/caddymodule/pool"
)

// Words of the options of an audit trail.
const (
	mailHash  = "hash"
	mailClear = "clear"
	mailNone  = "none"

	failureContinue = "continue"
	failureRefuse   = "refuse"
)

// Audit keeps a trail of what is decided: tokens, rooms that are created, opened
// routes, revocations, quotas, adoption and administration. `meet audit verify` and
// `meet audit query` read it.
type Audit struct {
	// Where lines are written: one of Caddy's log writers. A file is made with mode
	// 0600 unless it says otherwise.
	OutputRaw json.RawMessage `json:"output,omitempty" caddy:"namespace=caddy.logging.writers inline_key=output"`

	// What lines hold of users' mail addresses: `hash`, which is keyed and the same as
	// long as the secret is, `clear`, or `none`. Default: `hash`.
	Mail string `json:"mail,omitempty"`

	// What happens while lines cannot be written, such as on a full disk: `continue`
	// keeps what fits into memory, logs an error and sets a metric; `refuse` answers
	// requests that would be in the trail with 503. Default: `continue`.
	OnFailure string `json:"on_failure,omitempty"`

	// The name of this gateway in every line. Default: the name of the host.
	Gateway string `json:"gateway,omitempty"`

	trail *audit.Trail
	owner *sharedTrail
	key   *audit.Key
}

// provision opens the trail, or takes the one that an earlier configuration writes.
func (a *Audit) provision(ctx caddy.Context, secret []byte) error {
	a.Mail = cmp.Or(a.Mail, mailHash)
	a.OnFailure = cmp.Or(a.OnFailure, failureContinue)
	if a.Mail != mailHash && a.Mail != mailClear && a.Mail != mailNone {
		return fmt.Errorf("audit: mail must be %s, %s or %s, got %q", mailHash, mailClear, mailNone, a.Mail)
	}
	if a.OnFailure != failureContinue && a.OnFailure != failureRefuse {
		return fmt.Errorf("audit: on_failure must be %s or %s, got %q", failureContinue, failureRefuse, a.OnFailure)
	}
	if a.Gateway == "" {
		a.Gateway, _ = os.Hostname() // "" is no name, and no reason not to start
	}
	if a.OutputRaw == nil {
		return errors.New("audit: no output: write `output file /var/log/meet-gateway/audit.log`, or another of Caddy's log writers")
	}
	a.OutputRaw = withPrivateMode(a.OutputRaw)
	mod, err := ctx.LoadModule(a, "OutputRaw")
	if err != nil {
		return fmt.Errorf("audit: loading the output: %w", err)
	}
	if a.key, err = audit.NewKey(secret); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if a.owner, err = borrowTrail(mod.(caddy.WriterOpener), a.key, a.Gateway); err != nil {
		return err
	}
	a.trail = a.owner.trail
	return nil
}

// withPrivateMode gives a file writer a mode: Caddy's own is another one after the
// first rotation.
func withPrivateMode(raw json.RawMessage) json.RawMessage {
	var output map[string]json.RawMessage
	if json.Unmarshal(raw, &output) != nil || string(output["output"]) != `"file"` || output["mode"] != nil {
		return raw
	}
	output["mode"] = json.RawMessage(`"0600"`)
	private, err := json.Marshal(output)
	if err != nil {
		return raw
	}
	return private
}

// mail puts a user's address into an event, as the operator wants it.
func (a *Audit) mail(e *audit.Event, mail string) {
	switch {
	case mail == "":
	case a.Mail == mailClear:
		e.Mail = mail
	case a.Mail == mailHash:
		e.MailHash = a.key.MailHash(mail)
	}
}

// ready returns an error if requests are to be refused because the trail cannot be
// written.
func (a *Audit) ready() error {
	if a == nil || a.OnFailure != failureRefuse {
		return nil
	}
	return a.trail.Ready()
}

// write adds an event. An error means that what it is about must not be answered.
func (a *Audit) write(e audit.Event) error {
	if a == nil {
		return nil
	}
	if err := a.trail.Write(e); err != nil && a.OnFailure == failureRefuse {
		return err
	}
	return nil
}

// sharedTrail is a trail that all configurations with the same output write: two
// writers of one file would be two chains in it.
type sharedTrail struct {
	key   string
	trail *audit.Trail
	users int
}

var (
	trailsMu sync.Mutex
	trails   = map[string]*sharedTrail{}
)

// borrowTrail returns the trail that is written to an output.
func borrowTrail(output caddy.WriterOpener, key *audit.Key, gateway string) (*sharedTrail, error) {
	trailsMu.Lock()
	defer trailsMu.Unlock()
	name := output.WriterKey()
	if s, ok := trails[name]; ok {
		s.users++
		return s, nil
	}
	file := ""
	if f, ok := output.(*logging.FileWriter); ok {
		file = f.Filename
	}
	trail, err := audit.Open(audit.Options{
		Open: func() (io.WriteCloser, error) { return output.OpenWriter() },
		File: file, Gateway: gateway, Key: key, OnState: reportTrail,
	})
	if err != nil {
		return nil, err
	}
	s := &sharedTrail{key: name, trail: trail, users: 1}
	trails[name] = s
	return s, nil
}

// release closes the trail when no configuration has used it for a while: requests
// of the last one may still be served.
func (s *sharedTrail) release() error {
	trailsMu.Lock()
	s.users--
	unused := s.users == 0
	trailsMu.Unlock()
	if !unused {
		return nil
	}
	return pool.AfterDrain(pool.Drain, func() error {
		trailsMu.Lock()
		defer trailsMu.Unlock()
		if s.users > 0 || trails[s.key] != s {
			return nil
		}
		delete(trails, s.key)
		return s.trail.Close()
	})
}

// reportTrail tells the operator of a trail that cannot be written.
func reportTrail(err error) {
	if err != nil {
		logger().Error("the audit trail cannot be written; lines are kept in memory as long as there is room", zap.Error(err))
		return
	}
	logger().Info("the audit trail is written again")
}

// provisionAudit opens the trail if there is one.
func (a *App) provisionAudit(ctx caddy.Context) error {
	if a.Audit == nil {
		return nil
	}
	secrets, err := resolveSecrets(a.Secrets, a.store.Secret())
	if err != nil {
		return err
	}
	return a.Audit.provision(ctx, secrets[0])
}

// cleanupAudit gives the trail back.
func (a *App) cleanupAudit() error {
	if a.Audit == nil || a.Audit.owner == nil {
		return nil
	}
	return a.Audit.owner.release()
}

// Record writes an event of administration; see admin.Auditor. It reports false if
// there is no trail.
func (a *App) Record(e audit.Event) bool {
	countRevocation(&e)
	if a.Audit == nil {
		return false
	}
	_ = a.Audit.write(e) // it was done; the trail has it once it can be written
	return true
}

// AuditReady returns an error if what would be in the trail must not be done.
func (a *App) AuditReady() error { return a.Audit.ready() }

// AuditState tells where the trail is; false if there is none.
func (a *App) AuditState() (audit.State, bool) {
	if a.Audit == nil {
		return audit.State{}, false
	}
	return a.Audit.trail.State(), true
}

// unmarshalCaddyfile reads the block `audit`. Syntax:
//
//	audit {
//	    output     <log writer> ...
//	    mail       hash|clear|none
//	    on_failure continue|refuse
//	    gateway    <name>
//	}
func (a *Audit) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if err := option.None(d); err != nil {
		return err
	}
	err := option.Block(d,
		option.Once("output", a.unmarshalOutput),
		option.Once("mail", option.Word(&a.Mail, mailHash, mailClear, mailNone)),
		option.Once("on_failure", option.Word(&a.OnFailure, failureContinue, failureRefuse)),
		option.Once("gateway", option.One(&a.Gateway)),
	)
	if err != nil {
		return err
	}
	if a.OutputRaw == nil {
		return d.Err("audit needs an output: write `output file /var/log/meet-gateway/audit.log`")
	}
	return nil
}

// unmarshalOutput reads the name and the options of a log writer. Those in Caddy's
// own package have none.
func (a *Audit) unmarshalOutput(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	var writer caddy.WriterOpener
	switch name {
	case "stdout":
		writer = caddy.StdoutWriter{}
	case "stderr":
		writer = caddy.StderrWriter{}
	case "discard":
		return d.Err("output discard would keep no trail; leave the block audit out")
	default:
		mod, err := caddyfile.UnmarshalModule(d, "caddy.logging.writers."+name)
		if err != nil {
			return err
		}
		var ok bool
		if writer, ok = mod.(caddy.WriterOpener); !ok {
			return d.Errf("module %s is no log writer", name)
		}
	}
	a.OutputRaw = caddyconfig.JSONModuleObject(writer, "output", name, nil)
	return nil
}
