// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/meet-gateway/meet-gateway/caddymodule/option"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

// resolveSecrets resolves the configured secrets, or returns own, the store's secret,
// if there are none. Errors do not contain secrets.
func resolveSecrets(texts []string, own []byte) ([][]byte, error) {
	repl := caddy.NewReplacer()
	var secrets [][]byte
	for i, text := range texts {
		resolved, err := option.Resolve(repl, text)
		if err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
		if resolved == "" {
			if len(texts) == 1 {
				continue // as if it were not configured
			}
			return nil, fmt.Errorf("secret %d is empty: its variable or file has no value in the gateway's process (variables must be set when that starts)", i+1)
		}
		secrets = append(secrets, []byte(resolved))
	}
	if len(secrets) > 0 {
		return secrets, nil
	}
	if own == nil {
		return nil, errors.New("no secret: this store needs one of at least 32 random bytes. " +
			"Make it with `openssl rand -base64 32`, give every gateway the same one, for example as MEET_GATEWAY_SECRET, " +
			"and write `secret {env.MEET_GATEWAY_SECRET}` in the meet_gateway global option")
	}
	return [][]byte{own}, nil
}

// signingSecret in place of a signing key stands for the key that is derived from the
// first secret.
const signingSecret = "secret"

// signingKeys parses the signing keys into o and returns their texts for the key of the
// pool.
func (a *App) signingKeys(o *tokens.Options) ([]string, error) {
	repl := caddy.NewReplacer()
	var texts []string
	for i, text := range a.SigningKeys {
		if text == signingSecret {
			if i > 0 {
				return nil, fmt.Errorf("signing_key %d: %s can only be the first key, which signs; secrets verify anyway", i+1, signingSecret)
			}
			o.SecretSigns = true
			texts = append(texts, text)
			continue
		}
		pem, err := option.Resolve(repl, text)
		if err != nil {
			return nil, fmt.Errorf("signing_key %d: %w", i+1, err)
		}
		key, err := signing.Parse([]byte(pem))
		if err != nil {
			return nil, fmt.Errorf("signing_key %d: %w", i+1, err)
		}
		o.SigningKeys = append(o.SigningKeys, key)
		texts = append(texts, pem)
	}
	return texts, nil
}
