// SPDX-License-Identifier: MIT

package sandbox

import "fmt"

// LoadFixtures adds the made-up users, applications and rooms of the recording
// in testdata/README.md: alice with 45 rooms, bob with three, two users who
// share a mail, applications with all, some and no scopes.
func (m *Meet) LoadFixtures() {
	for _, a := range fixtureApplications() {
		m.AddApplication(a)
	}
	for _, u := range fixtureUsers {
		m.AddUser(u)
	}
	m.AddRoom(fixtureRooms()...)
}

// Ids of the fixtures that rooms refer to.
const (
	aliceID = "a11ce000-0000-4000-8000-00000000000a"
	bobID   = "b0b00000-0000-4000-8000-00000000000b"
	paulaID = "9a01a000-0000-4000-8000-00000000000f"
)

var fixtureUsers = []User{
	{aliceID, "sub-alice", "Alice@example.com", true},
	{bobID, "sub-bob", "bob@example.com", true},
	{"ca401000-0000-4000-8000-00000000000c", "sub-carol", "carol@example.com", true},
	{"d04a0000-0000-4000-8000-00000000000d", "sub-dora", "dora@allowed.example", true},
	{"1fa40000-0000-4000-8000-00000000000e", "sub-ivan", "inactive@example.com", false},
	{paulaID, "", "provisional@example.com", true},
	{"d0bb1e00-0000-4000-8000-000000000010", "sub-dup-one", "dup@example.com", true},
	{"d0bb1e00-0000-4000-8000-000000000011", "sub-dup-two", "Dup@example.com", true},
	{"d0bb1e00-0000-4000-8000-000000000012", "sub-half-on", "half@example.com", true},
	{"d0bb1e00-0000-4000-8000-000000000013", "sub-half-off", "half@example.com", false},
	{"40ae1100-0000-4000-8000-000000000014", "sub-nomail", "", true},
	{"9a01a000-0000-4000-8000-000000000015", "", "provisional-off@example.com", false},
}

func fixtureApplications() []Application {
	return []Application{
		{"app-full", "test-secret-full-0001", "Fixture all scopes", allScopes, nil, true},
		{"app-list", "test-secret-list-0002", "Fixture list only", []string{"rooms:list"}, nil, true},
		{"app-retrieve", "test-secret-retrieve-0003", "Fixture retrieve only", []string{"rooms:retrieve"}, nil, true},
		{"app-create", "test-secret-create-0004", "Fixture create only", []string{"rooms:create"}, nil, true},
		{"app-none", "test-secret-none-0005", "Fixture without scopes", nil, nil, true},
		{"app-inactive", "test-secret-inactive-0006", "Fixture inactive", allScopes, nil, false},
		{"app-domain", "test-secret-domain-0007", "Fixture restricted to domains", allScopes, []string{"allowed.example", "second.example"}, true},
	}
}

func fixtureRooms() []Room {
	var rooms []Room
	for n := 1; n <= 45; n++ {
		rooms = append(rooms, Room{
			ID:    fmt.Sprintf("5eed0000-0000-4000-8000-%012x", n),
			Slug:  fmt.Sprintf("alice-room-%02d", n),
			PIN:   fmt.Sprint(1000000000 + n),
			Roles: map[string]Role{aliceID: Owner},
		})
	}
	rooms[1].AccessLevel = "restricted"
	rooms[2].AccessLevel = "public"
	rooms[3].Configuration = map[string]any{"everyone_can_mute": true, "can_publish_sources": []string{"camera", "microphone"}}
	rooms[4].PIN = ""
	rooms[43].Roles = map[string]Role{bobID: Owner, aliceID: Member}
	rooms[44].Roles = map[string]Role{bobID: Owner, aliceID: Administrator}
	return append(rooms,
		Room{ID: "5eed0000-0000-4000-8000-000000000064", Slug: "bob-private", PIN: "1000000100", Roles: map[string]Role{bobID: Owner}},
		Room{
			ID: "5eed0000-0000-4000-8000-000000000065", Slug: "paula-room", PIN: "1000000101",
			AccessLevel: "restricted", Roles: map[string]Role{paulaID: Owner},
		})
}
