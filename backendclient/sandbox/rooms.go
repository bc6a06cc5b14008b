// SPDX-License-Identifier: MIT

package sandbox

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// roomResponse is a room as the API shows it.
type roomResponse struct {
	ID            string             `json:"id"`
	Name          string             `json:"name"`
	Slug          string             `json:"slug"`
	AccessLevel   string             `json:"access_level"`
	Configuration any                `json:"configuration"`
	URL           string             `json:"url,omitempty"`
	Telephony     *telephonyResponse `json:"telephony,omitempty"`
}

type telephonyResponse struct {
	Enabled        bool    `json:"enabled"`
	PhoneNumber    *string `json:"phone_number"`
	PINCode        *string `json:"pin_code"`
	DefaultCountry string  `json:"default_country"`
}

// listResponse is one page of rooms.
type listResponse struct {
	Count    int            `json:"count"`
	Next     *string        `json:"next"`
	Previous *string        `json:"previous"`
	Results  []roomResponse `json:"results"`
}

// accessLevels are the access levels of rooms.
var accessLevels = []string{"public", "trusted", "restricted"}

// action is what a method does to the rooms: the scope it needs and the code.
type action struct {
	scope string
	run   func(*call, *identity) *answer
}

// collectionView is rooms/.
func (m *Meet) collectionView(c *call) *answer {
	return m.rooms(c, map[string]action{
		http.MethodGet:  {"rooms:list", m.list},
		http.MethodHead: {"rooms:list", m.list},
		http.MethodPost: {"rooms:create", m.create},
	}).allow("GET, POST, HEAD, OPTIONS")
}

// roomView is rooms/{id}/.
func (m *Meet) roomView(c *call, id string) *answer {
	retrieve := action{"rooms:retrieve", func(c *call, who *identity) *answer { return m.retrieve(c, who, id) }}
	return m.rooms(c, map[string]action{
		http.MethodGet:  retrieve,
		http.MethodHead: retrieve,
	}).allow("GET, HEAD, OPTIONS")
}

// rooms authenticates before it checks the method, and checks the scope before room and body.
// OPTIONS requires a scope that does not exist.
func (m *Meet) rooms(c *call, actions map[string]action) *answer {
	if a := c.negotiate(); a != nil {
		return a
	}
	who, a := m.authenticate(c)
	if a != nil {
		return a
	}
	c.session = false // the framework knows who it is
	do, ok := actions[c.r.Method]
	switch {
	case c.r.Method == http.MethodOptions:
		do.scope = "None"
	case !ok:
		return c.methodNotAllowed()
	}
	if a := m.authorize(c, who, do.scope); a != nil {
		return a
	}
	return do.run(c, who)
}

// list is GET rooms/: all rooms in which the user has a role.
func (m *Meet) list(c *call, who *identity) *answer {
	query := parseQuery(c.r.URL.RawQuery)
	size := m.pageSize(&query)

	m.db.mu.RLock()
	defer m.db.mu.RUnlock()
	mine := m.db.roomsOf[who.userID]
	if slug := query.last("slug"); slug != "" && m.settings.SlugFilter {
		mine = slices.DeleteFunc(slices.Clone(mine), func(r *Room) bool { return r.Slug != slug })
	}
	pages := max(1, (len(mine)+size-1)/size)
	page, ok := pageNumber(query.last("page"), pages)
	if !ok {
		return c.detail(http.StatusNotFound, c.text(textPage))
	}
	first := (page - 1) * size
	body := listResponse{Count: len(mine), Results: []roomResponse{}}
	for _, r := range mine[first:min(first+size, len(mine))] {
		body.Results = append(body.Results, m.render(r))
	}
	if page < pages {
		body.Next = c.pageLink(&query, page+1)
	}
	if page > 1 {
		body.Previous = c.pageLink(&query, page-1)
	}
	return c.json(http.StatusOK, body)
}

// maxPageSize bounds page_size where it is honoured.
const maxPageSize = 100

func (m *Meet) pageSize(query *values) int {
	if m.settings.HonourPageSize {
		if n, err := strconv.Atoi(query.last("page_size")); err == nil && n > 0 {
			return min(n, maxPageSize)
		}
	}
	return cmp.Or(m.settings.PageSize, 20)
}

// pageNumber reads the page as Python reads an integer: with spaces around and
// single underscores inside.
func pageNumber(text string, pages int) (int, bool) {
	switch text {
	case "":
		return 1, true
	case "last":
		return pages, true
	}
	text = pythonStrip(text)
	if strings.HasPrefix(text, "_") || strings.HasSuffix(text, "_") || strings.Contains(text, "__") {
		return 0, false
	}
	n, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
	return n, err == nil && n >= 1 && n <= pages
}

// pageLink is the address of another page: with the Host that was asked for,
// all other parameters kept and sorted, and no page for the first.
func (c *call) pageLink(query *values, page int) *string {
	fields := url.Values{}
	maps.Copy(fields, query.fields)
	fields.Del("page")
	if page > 1 {
		fields.Set("page", strconv.Itoa(page))
	}
	scheme := "http"
	if c.https {
		scheme = "https"
	}
	link := url.URL{Scheme: scheme, Host: c.host, Path: prefix + "rooms/", RawQuery: fields.Encode()}
	s := link.String()
	return &s
}

// retrieve is GET rooms/{id}/.
func (m *Meet) retrieve(c *call, who *identity, id string) *answer {
	id, ok := parseUUID(id)
	if !ok {
		return c.detail(http.StatusNotFound, c.text(textNotFound))
	}
	m.db.mu.RLock()
	defer m.db.mu.RUnlock()
	r, ok := m.db.rooms[id]
	if !ok {
		return c.detail(http.StatusNotFound, "No Room matches the given query.")
	}
	if _, ok := r.Roles[who.userID]; !ok {
		return c.detail(http.StatusForbidden, c.text(textPermission))
	}
	return c.json(http.StatusOK, m.render(r))
}

// create is POST rooms/. It ignores all fields but access_level and configuration.
func (m *Meet) create(c *call, who *identity) *answer {
	data, a := c.data(mediaJSON, mediaMultipart)
	if a != nil {
		return a
	}
	body, a := c.dictionary(data)
	if a != nil {
		return a
	}
	room, a := m.newRoom(c, body)
	if a != nil {
		return a
	}
	room.Roles = map[string]Role{who.userID: Owner}

	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	made := m.render(m.db.addRoom(room))
	a = c.json(http.StatusCreated, made)
	if made.URL != "" {
		a.header.Set("Location", made.URL) // a web page, not the new resource
	}
	return a
}

// newRoom validates a body and returns its room.
func (m *Meet) newRoom(c *call, body *object) (Room, *answer) {
	room := Room{AccessLevel: m.settings.DefaultAccessLevel, Configuration: &object{}}
	faults := map[string]any{}
	level, sent := body.Values["access_level"]
	if sent {
		if fault := m.accessLevelFault(c, level); fault != "" {
			faults["access_level"] = []any{fault}
		}
		room.AccessLevel, _ = level.(string)
	} else if !slices.Contains(accessLevels, room.AccessLevel) {
		faults["access_level"] = []any{"Value '" + room.AccessLevel + "' is not a valid choice."}
	}
	if configuration, sent := body.Values["configuration"]; sent {
		if f := c.configurationFaults(configuration); len(f) > 0 {
			faults["configuration"] = f
		}
		room.Configuration = configuration
	}
	if len(faults) > 0 {
		return Room{}, c.json(http.StatusBadRequest, faults)
	}
	if m.settings.Telephony.Enabled {
		room.PIN = newPIN(cmp.Or(m.settings.Telephony.PINLength, 10))
	}
	return room, nil
}

func (m *Meet) accessLevelFault(c *call, level any) string {
	if level == nil {
		return c.text(textNull)
	}
	text, ok := level.(string)
	switch {
	case !ok || !slices.Contains(accessLevels, text):
		return c.text(textChoice, pythonText(level))
	case text == "public" && !m.settings.allowsPublic():
		return "Public rooms are disabled for the external API."
	}
	return ""
}

// render shows a room as the settings have it.
func (m *Meet) render(r *Room) roomResponse {
	view := roomResponse{ID: r.ID, Name: r.Name, Slug: r.Slug, AccessLevel: r.AccessLevel, Configuration: r.Configuration}
	if m.settings.BaseURL != "" {
		view.URL = m.settings.BaseURL + "/" + r.Slug
	}
	if t := m.settings.Telephony; t.Enabled {
		view.Telephony = &telephonyResponse{
			Enabled:        true,
			PhoneNumber:    orNull(t.PhoneNumber),
			PINCode:        orNull(r.PIN),
			DefaultCountry: cmp.Or(t.DefaultCountry, "US"),
		}
	}
	return view
}

// orNull returns nil, JSON's null, for empty text.
func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
