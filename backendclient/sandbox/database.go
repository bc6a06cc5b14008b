// SPDX-License-Identifier: MIT

package sandbox

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// Application is a platform that may exchange its credentials for tokens.
type Application struct {
	ClientID string
	Secret   string
	Name     string
	// Scopes are copied into each token when it is issued.
	Scopes []string
	// Domains are the mail domains that it may act for, without subdomains. Empty means no
	// restriction.
	Domains []string
	// Active is whether the application may exchange and its tokens are valid.
	Active bool
}

// User is a user of Meet.
type User struct {
	// ID is a UUID; [Meet.AddUser] creates one if it is empty.
	ID string
	// Sub is the user's subject at the identity provider. It is empty for a provisional user,
	// who was created by an exchange and has never logged in.
	Sub string
	// Email is compared without regard to case. It may be empty.
	Email string
	// Active is whether the user may use rooms. The token endpoint ignores it.
	Active bool
}

// Role is the role of a user in a room.
type Role string

// The roles of Meet. Each gives access to the room.
const (
	Owner         Role = "owner"
	Administrator Role = "administrator"
	Member        Role = "member"
)

// Room is a room of Meet. [Meet.AddRoom] sets empty fields except the PIN: a room without one
// was created before telephony was enabled.
type Room struct {
	ID          string
	Name        string
	Slug        string
	AccessLevel string
	// Configuration is marshaled to JSON.
	Configuration any
	PIN           string
	// Roles are the users of the room by id.
	Roles map[string]Role
}

// database is the state of a Meet. All its views share it.
type database struct {
	mu           sync.RWMutex
	applications map[string]Application
	users        map[string]User
	byMail       map[string][]string // ids of users by folded mail, oldest first
	rooms        map[string]*Room
	slugs        map[string]bool
	roomsOf      map[string][]*Room // by user id, ordered by name
}

func newDatabase() *database {
	return &database{
		applications: map[string]Application{},
		users:        map[string]User{},
		byMail:       map[string][]string{},
		rooms:        map[string]*Room{},
		slugs:        map[string]bool{},
		roomsOf:      map[string][]*Room{},
	}
}

// AddApplication registers an application, or replaces the one with its ClientID.
func (m *Meet) AddApplication(a Application) {
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	a.Scopes = slices.Clone(a.Scopes)
	a.Domains = slices.Clone(a.Domains)
	m.db.applications[a.ClientID] = a
}

// SetApplicationActive activates or deactivates an application; its tokens
// follow at once. An unknown clientID is ignored.
func (m *Meet) SetApplicationActive(clientID string, active bool) {
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	if a, ok := m.db.applications[clientID]; ok {
		a.Active = active
		m.db.applications[clientID] = a
	}
}

// AddUser adds a user and returns it with its id. It does not look for another
// with the same mail: two of them make the token endpoint answer 400 in HTML.
func (m *Meet) AddUser(u User) User {
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	return m.db.addUser(u)
}

// RemoveRoom deletes the room with the given id.
func (m *Meet) RemoveRoom(id string) {
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	for user, rooms := range m.db.roomsOf {
		m.db.roomsOf[user] = slices.DeleteFunc(rooms, func(r *Room) bool { return r.ID == id })
	}
	delete(m.db.rooms, id)
}

// RemoveUser deletes the users with the given mail. Their tokens are refused
// with "User not found.", and the next exchange provisions the user again if allowed.
func (m *Meet) RemoveUser(mail string) {
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	for _, u := range m.db.usersByMail(mail) {
		m.db.removeUser(u.ID)
	}
}

// SetUserActive activates or deactivates the users with the given mail.
func (m *Meet) SetUserActive(mail string, active bool) {
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	for _, u := range m.db.usersByMail(mail) {
		u.Active = active
		m.db.users[u.ID] = u
	}
}

// MergeUsers merges the users with the given mail, like Meet's command
// merge_duplicate_users: the newest user gets the rooms of all, the others are deleted. A
// single user is merged into a new one, so that the id always changes. It returns the
// remaining id, or "" for an unknown mail.
func (m *Meet) MergeUsers(mail string) string {
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	users := m.db.usersByMail(mail)
	if len(users) == 0 {
		return ""
	}
	if len(users) == 1 {
		users = append(users, m.db.addUser(User{Sub: users[0].Sub, Email: users[0].Email, Active: users[0].Active}))
	}
	last := len(users) - 1
	for _, u := range users[:last] {
		for _, r := range slices.Clone(m.db.roomsOf[u.ID]) {
			if _, ok := r.Roles[users[last].ID]; !ok {
				m.db.join(r, users[last].ID, r.Roles[u.ID])
			}
		}
		m.db.removeUser(u.ID)
	}
	return users[last].ID
}

// AddRoom adds rooms. Empty ids and slugs are generated; the default of the name is the slug,
// that of the access level is trusted.
func (m *Meet) AddRoom(rooms ...Room) {
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	for _, r := range rooms {
		m.db.addRoom(r)
	}
}

func (d *database) addUser(u User) User {
	u.ID = cmp.Or(u.ID, newUUID())
	d.users[u.ID] = u
	if u.Email != "" {
		d.byMail[foldMail(u.Email)] = append(d.byMail[foldMail(u.Email)], u.ID)
	}
	return u
}

func (d *database) removeUser(id string) {
	for _, r := range d.roomsOf[id] {
		delete(r.Roles, id)
	}
	delete(d.roomsOf, id)
	mail := foldMail(d.users[id].Email)
	d.byMail[mail] = slices.DeleteFunc(d.byMail[mail], func(other string) bool { return other == id })
	delete(d.users, id)
}

// usersByMail returns the users with the mail in any case, oldest first.
func (d *database) usersByMail(mail string) []User {
	var found []User
	for _, id := range d.byMail[foldMail(mail)] {
		found = append(found, d.users[id])
	}
	return found
}

// foldMail maps mails that differ in case only to one, as Meet's iexact look-up.
func foldMail(mail string) string { return strings.ToUpper(mail) }

func (d *database) addRoom(r Room) *Room {
	for r.Slug == "" {
		if s := newSlug(); !d.slugs[s] {
			r.Slug = s
		}
	}
	r.ID = cmp.Or(r.ID, newUUID())
	r.Name = cmp.Or(r.Name, r.Slug)
	r.AccessLevel = cmp.Or(r.AccessLevel, "trusted")
	if r.Configuration == nil {
		r.Configuration = struct{}{}
	}
	roles := r.Roles
	r.Roles = make(map[string]Role, len(roles))
	d.rooms[r.ID] = &r
	d.slugs[r.Slug] = true
	for _, id := range slices.Sorted(maps.Keys(roles)) {
		d.join(&r, id, roles[id])
	}
	return &r
}

// join gives a user a role in a room and keeps the user's rooms in order.
func (d *database) join(r *Room, userID string, role Role) {
	r.Roles[userID] = role
	mine := d.roomsOf[userID]
	at, _ := slices.BinarySearchFunc(mine, r, func(a, b *Room) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	d.roomsOf[userID] = slices.Insert(mine, at, r)
}

// newUUID returns a random UUID (RFC 9562 §5.4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return formatUUID(b)
}

func formatUUID(b [16]byte) string {
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// parseUUID reads a UUID as Python's uuid.UUID does, for Meet's paths and
// claims: in any case, with dashes anywhere, in braces, as a URN.
func parseUUID(s string) (string, bool) {
	s = strings.NewReplacer("urn:", "", "uuid:", "").Replace(s)
	s = strings.ReplaceAll(strings.Trim(s, "{}"), "-", "")
	var b [16]byte
	if len(s) != 2*len(b) {
		return "", false
	}
	if _, err := hex.Decode(b[:], []byte(s)); err != nil {
		return "", false
	}
	return formatUUID(b), true
}

// newSlug returns a name like abc-defg-hij.
func newSlug() string {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	return randomText(letters, 3) + "-" + randomText(letters, 4) + "-" + randomText(letters, 3)
}

func newPIN(length int) string { return randomText("0123456789", length) }

func randomText(alphabet string, length int) string {
	b := make([]byte, length)
	for i := range b {
		b[i] = alphabet[mathrand.IntN(len(alphabet))]
	}
	return string(b)
}
