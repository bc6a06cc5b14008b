// SPDX-License-Identifier: MIT

package tokens

import (
	"encoding/binary"
	"time"
	"unique"
)

// packedUser is a user in the cache, in about 40 bytes. There can be a hundred thousand, and the
// garbage collector does not scan strings.
type packedUser struct {
	shared unique.Handle[sharedByUsers]
	// own is what only this user has: four uvarints and the address.
	own string
}

// sharedByUsers is what many users have in common.
type sharedByUsers struct {
	firstSeenBy string
	// These two are nil for most users.
	revoked *revokedGrants
	others  *[]string
}

// pack leaves out what no decision needs: BackendUserID, LastSeen and LastSeenBy.
func (u *User) pack() packedUser {
	own := make([]byte, 0, 256)
	for _, n := range [...]uint64{packTime(u.read), packTime(u.FirstSeen), u.generation, u.grantCount} {
		own = binary.AppendUvarint(own, n)
	}
	return packedUser{unique.Make(sharedByUsers{u.FirstSeenBy, u.revoked, u.others}), string(append(own, u.Mail...))}
}

func (p packedUser) unpack(id userID) *User {
	var numbers [4]uint64
	own := p.own
	for i := range numbers {
		n, size := binary.Uvarint([]byte(own))
		numbers[i], own = n, own[size:]
	}
	shared := p.shared.Value()
	return &User{
		ID: string(id[:]), Mail: Mail(own), FirstSeen: unpackTime(numbers[1]), FirstSeenBy: shared.firstSeenBy,
		generation: numbers[2], grantCount: numbers[3], revoked: shared.revoked, others: shared.others, read: unpackTime(numbers[0]),
	}
}

// packTime returns unix milliseconds, and 0 for no time.
func packTime(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMilli())
}

func unpackTime(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}
