// SPDX-License-Identifier: MIT

package audit

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Key holds the keys for heads and for mail addresses. Both are derived from one of the
// gateway's secrets, for separate purposes.
type Key struct {
	// ID identifies the key: 8 hexadecimal digits.
	ID    string
	heads []byte
	mails []byte
}

// NewKey derives the key from a secret of the gateway.
func NewKey(secret []byte) (*Key, error) {
	derive := func(purpose string) []byte {
		key, err := hkdf.Key(sha256.New, secret, []byte("meet-gateway audit"), purpose, sha256.Size)
		if err != nil { // only for lengths that are not used here
			panic(err)
		}
		return key
	}
	if len(secret) == 0 {
		return nil, fmt.Errorf("the secret is empty")
	}
	return &Key{ID: hex.EncodeToString(derive("id")[:4]), heads: derive("head"), mails: derive("mail")}, nil
}

// MailHash returns the keyed hash of a mail address. It is stable as long as the secret
// is, and does not reveal the address without the secret.
func (k *Key) MailHash(mail string) string {
	return hex.EncodeToString(k.mac(k.mails, strings.ToLower(mail))[:16])
}

// head is the keyed hash of a place in a chain.
func (k *Key) head(chain string, seq uint64, prev string) string {
	return hex.EncodeToString(k.mac(k.heads, fmt.Sprintf("%s %d %s", chain, seq, prev)))
}

func (*Key) mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
