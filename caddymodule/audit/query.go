// SPDX-License-Identifier: MIT

package audit

import (
	"slices"
	"strings"
	"time"
)

// Filter selects events. An empty field selects all.
type Filter struct {
	Room        string // id or slug
	User        string // public id, or a mail address
	Application string // id or name
	Type        string // event_type, or its part before the dot
	Decision    string
	RequestID   string
	Since       time.Time
	Until       time.Time
	// Keys find users by mail address in trails with keyed hashes.
	Keys []*Key
}

// Line is a selected event with its line of the file.
type Line struct {
	Event
	Raw  []byte
	File string
	Line int
}

// Query calls each for the selected events, file by file, and returns the number of
// unreadable lines. It does not check hashes: see [Verify].
func Query(files []string, f Filter, each func(Line) error) (unreadable int, err error) {
	mails := []string{strings.ToLower(f.User)}
	for _, k := range f.Keys {
		mails = append(mails, k.MailHash(f.User))
	}
	for _, file := range files {
		err := readFile(file, func(e entry) error {
			if e.broken != nil {
				unreadable++
				return nil
			}
			if !f.selects(&e.Event, mails) {
				return nil
			}
			return each(Line{Event: e.Event, Raw: e.raw, File: e.file, Line: e.line})
		})
		if err != nil {
			return unreadable, err
		}
	}
	return unreadable, nil
}

func (f *Filter) selects(e *Event, mails []string) bool {
	switch {
	case f.Room != "" && (e.Room == nil || !strings.EqualFold(e.Room.ID, f.Room) && e.Room.Slug != f.Room),
		f.Application != "" && (e.Application == nil || e.Application.ID != f.Application && e.Application.Name != f.Application),
		f.Type != "" && e.Type != f.Type && !strings.HasPrefix(e.Type, f.Type+"."),
		f.Decision != "" && e.Decision != f.Decision,
		f.RequestID != "" && e.RequestID != f.RequestID,
		!f.Since.IsZero() && e.Time.Before(f.Since),
		!f.Until.IsZero() && e.Time.After(f.Until):
		return false
	}
	return f.User == "" || e.User == f.User || e.Mail != "" && slices.Contains(mails, e.Mail) || e.MailHash != "" && slices.Contains(mails, e.MailHash)
}
