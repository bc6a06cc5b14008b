// SPDX-License-Identifier: MIT

package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// noHash stands before the first line of a chain.
var noHash = strings.Repeat("0", 2*sha256.Size)

// link is the place of a line in its chain.
type link struct {
	Chain string `json:"chain"`
	// Seq counts the lines of the chain from 1.
	Seq  uint64 `json:"seq"`
	Prev string `json:"prev"`
}

// head holds the additional fields of the lines that the trail writes about itself.
type head struct {
	// Key is the id of the key; MAC is the keyed hash of the place in the chain.
	Key string `json:"key"`
	MAC string `json:"mac"`
	// First is the number of the first line of the file.
	First uint64 `json:"first,omitempty"`
	// Unclean is true if the trail before was not closed: the process was killed, or
	// the machine failed.
	Unclean bool `json:"unclean,omitempty"`
	// Torn is true if its last line was incomplete.
	Torn bool `json:"torn,omitempty"`
	// Lost counts events that could not be written and are not in the chain.
	Lost uint64 `json:"lost,omitempty"`
}

// The lines that a trail writes about itself. Each carries a head.
const (
	opened  = "audit.opened"
	minute  = "audit.head"
	rotated = "audit.rotated"
	gap     = "audit.gap"
	closed  = "audit.closed"
)

// hashSuffix is the length of the end of each line: the hash of all bytes before it.
const (
	hashName   = `,"hash":"`
	hashSuffix = len(hashName) + 2*sha256.Size + len(`"}`)
)

// encode returns the line of an event, without a newline, and its hash.
func encode(l link, e *Event, h *head) (line []byte, hash string, err error) {
	line, err = json.Marshal(struct {
		link
		*Event
		*head
	}{l, e, h})
	if err != nil {
		return nil, "", fmt.Errorf("encoding an event: %w", err)
	}
	line = line[:len(line)-1]
	sum := sha256.Sum256(line)
	hash = hex.EncodeToString(sum[:])
	line = append(line, hashName...)
	line = append(line, hash...)
	return append(line, `"}`...), hash, nil
}

// record is a decoded line.
type record struct {
	link
	Event
	head
	Hash string `json:"hash"`
}

// decode reads a line. intact reports whether the hash at its end matches the bytes
// before it.
func decode(line []byte) (r record, intact bool, err error) {
	if err := json.Unmarshal(line, &r); err != nil {
		return r, false, fmt.Errorf("not a JSON object: %w", err)
	}
	if len(line) < hashSuffix || r.Seq == 0 || r.Chain == "" {
		return r, false, fmt.Errorf("not a line of an audit trail")
	}
	body, suffix := line[:len(line)-hashSuffix], line[len(line)-hashSuffix:]
	sum := sha256.Sum256(body)
	want := hashName + hex.EncodeToString(sum[:]) + `"}`
	return r, bytes.Equal(suffix, []byte(want)), nil
}
