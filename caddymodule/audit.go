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

// Values of the options.
const (
	mailHash  = "hash"
	mailClear = "clear"
	mailNone  = "none"

	failureContinue = "continue"
	failureRefuse   = "refuse"
)

// Audit configures the audit trail, which records issued tokens, created rooms, opened
// routes, revocations, quotas, adoption and administration. `meet audit verify` and
// `meet audit query` read it.
type Audit struct {
	// The log writer for the trail, one of Caddy's. Files get mode 0600 by default.
	// Required.
	OutputRaw json.RawMessage `json:"output,omitempty" caddy:"namespace=caddy.logging.writers inline_key=output"`

	// How to record users' mail addresses: `hash` for a keyed hash, stable as long as
	// the secret is, `clear`, or `none`. Default: `hash`.
	Mail string `json:"mail,omitempty"`

	// What to do while the trail cannot be written, for example on a full disk:
	// `continue` buffers lines in memory up to a limit, logs an error and sets a
	// metric; `refuse` answers requests that must be recorded with 503. Default:
	// `continue`.
	OnFailure string `json:"on_failure,omitempty"`

	// The name of this gateway in each line. Default: the host's name.
	Gateway string `json:"gateway,omitempty"`

	trail *audit.Trail
	owner *sharedTrail
	key   *audit.Key
}

// provision opens the trail or shares that of another configuration.
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
		a.Gateway, _ = os.Hostname() // without a name if there is none
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
	if a.owner, err = openTrail(mod.(caddy.WriterOpener), a.key, a.Gateway); err != nil {
		return err
	}
	a.trail = a.owner.trail
	return nil
}

// withPrivateMode sets the mode of a file writer. Caddy's default changes after the
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

// mail sets a user's mail address in the configured form.
func (a *Audit) mail(e *audit.Event, mail string) {
	switch {
	case mail == "":
	case a.Mail == mailClear:
		e.Mail = mail
	case a.Mail == mailHash:
		e.MailHash = a.key.MailHash(mail)
	}
}

// ready returns an error if requests must be refused because the trail cannot be
// written.
func (a *Audit) ready() error {
	if a == nil || a.OnFailure != failureRefuse {
		return nil
	}
	return a.trail.Ready()
}

// write writes an event. After an error the request must be refused.
func (a *Audit) write(e audit.Event) error {
	if a == nil {
		return nil
	}
	if err := a.trail.Write(e); err != nil && a.OnFailure == failureRefuse {
		return err
	}
	return nil
}

// sharedTrail is the trail of all configurations with the same output: a file with two
// writers would contain two chains.
type sharedTrail struct {
	key   string
	trail *audit.Trail
	users int
}

var (
	trailsMu sync.Mutex
	trails   = map[string]*sharedTrail{}
)

// openTrail returns the trail for an output.
func openTrail(output caddy.WriterOpener, key *audit.Key, gateway string) (*sharedTrail, error) {
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

// release closes the trail some time after the last configuration released it, since
// requests may still be in flight.
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

// reportTrail logs when the trail starts and stops failing.
func reportTrail(err error) {
	if err != nil {
		logger().Error("the audit trail cannot be written; lines are buffered in memory up to a limit", zap.Error(err))
		return
	}
	logger().Info("the audit trail is written again")
}

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

func (a *App) cleanupAudit() error {
	if a.Audit == nil || a.Audit.owner == nil {
		return nil
	}
	return a.Audit.owner.release()
}

// Record implements admin.Auditor. It reports false if there is no trail.
func (a *App) Record(e audit.Event) bool {
	countRevocation(&e)
	if a.Audit == nil {
		return false
	}
	_ = a.Audit.write(e) // the change is made; the trail keeps the line until it can be written
	return true
}

// AuditReady implements admin.Auditor.
func (a *App) AuditReady() error { return a.Audit.ready() }

// AuditState returns the state of the trail, or false if there is none.
func (a *App) AuditState() (audit.State, bool) {
	if a.Audit == nil {
		return audit.State{}, false
	}
	return a.Audit.trail.State(), true
}

// unmarshalCaddyfile parses the block `audit`. Syntax:
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

// unmarshalOutput parses a log writer. Those in Caddy's own package have no
// unmarshaler.
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
			return d.Errf("module %s is not a log writer", name)
		}
	}
	a.OutputRaw = caddyconfig.JSONModuleObject(writer, "output", name, nil)
	return nil
}
