package signing

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// UnmarshalJSON reads claims by their exact names (RFC 7519 §10.1.1: names are
// case-sensitive) and refuses a claim that is sent twice (§4). encoding/json alone
// would take "EXP" for "exp", and the last of two.
func (c *Claims) UnmarshalJSON(data []byte) error {
	object, err := exactObject(data)
	if err != nil {
		return err
	}
	for _, claim := range []struct {
		name string
		dst  any
	}{
		{"iss", &c.Issuer},
		{"aud", &c.Audience},
		{"iat", &c.IssuedAt},
		{"exp", &c.ExpiresAt},
		{"jti", &c.ID},
		{"sub", &c.Subject},
		{"client_id", &c.ClientID},
		{"scope", &c.Scope},
		{"user_id", &c.UserID},
		{"delegated", &c.Delegated},
	} {
		raw, sent := object[claim.name]
		if !sent {
			continue
		}
		if err := json.Unmarshal(raw, claim.dst); err != nil {
			return fmt.Errorf("claim %s: %w", claim.name, err)
		}
	}
	return nil
}

// exactObject reads a JSON object in which no name is there twice.
func exactObject(data []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New("no JSON object")
	}
	object := make(map[string]json.RawMessage)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("reading a name: %w", err)
		}
		name, _ := token.(string)
		if _, duplicate := object[name]; duplicate {
			return nil, errors.New("duplicate name")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("reading a value: %w", err)
		}
		object[name] = value
	}
	return object, nil
}

// headerOf is the decoded header of a JWT, or nothing.
func headerOf(raw string) []byte {
	encoded, _, _ := strings.Cut(raw, ".")
	header, _ := base64.RawURLEncoding.DecodeString(encoded)
	return header
}
