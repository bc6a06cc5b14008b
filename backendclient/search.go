// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"encoding/json"
	"net/http"
)

const (
	// maxSearchPages bounds a search to a thousand rooms.
	maxSearchPages = 50

	// maxSearchPasses bounds how often a changing list is searched.
	maxSearchPasses = 2
)

// FindRoomBySlug finds the caller's room with this slug. The answer is that of RetrieveRoom:
// 200 with the room as Meet wrote it, 404, or Meet's refusal.
//
// A Meet that filters by slug answers directly. Another one returns the first page of the
// list, and the search reads on page by page, up to 1000 rooms (ErrTooManyRooms).
func (c *Client) FindRoomBySlug(ctx context.Context, caller Caller, slug string) (*Response, error) {
	if slug == "" {
		return noRoom(), nil
	}
	for pass := 1; ; pass++ {
		a, consistent, err := c.search(ctx, caller, slug)
		if a != nil || err != nil {
			return a, err
		}
		if consistent || pass == maxSearchPasses {
			return noRoom(), nil
		}
	}
}

func noRoom() *Response {
	return &Response{Status: http.StatusNotFound, Body: []byte(`{"detail":"No Room matches the given query."}`)}
}

// search reads the pages once. If it finds nothing it reports whether the pages are of one
// list.
func (c *Client) search(ctx context.Context, caller Caller, slug string) (found *Response, consistent bool, err error) {
	first, refusal, err := c.page(ctx, caller, pageQuery{page: 1, slug: slug})
	if err != nil || refusal != nil {
		return refusal, false, err
	}
	if room := withSlug(first, slug); room != nil {
		return &Response{Status: http.StatusOK, Body: room}, true, nil
	}
	if !first.next || len(first.rooms) == 0 {
		return nil, true, nil
	}

	l := lister{c: c, caller: caller}
	last := pages(first.count, len(first.rooms))
	consistent = true
	for from := 2; from <= min(last, maxSearchPages); from += c.options.PageWorkers {
		to := min(from+c.options.PageWorkers-1, last, maxSearchPages)
		parts, refusal, err := l.fetchPages(ctx, nil, 0, from, to)
		if err != nil || refusal != nil {
			return refusal, false, err
		}
		for _, p := range parts {
			if p == nil || p.count != first.count {
				consistent = false
				continue
			}
			if room := withSlug(p, slug); room != nil {
				return &Response{Status: http.StatusOK, Body: room}, true, nil
			}
		}
	}
	if last > maxSearchPages {
		return nil, false, &Error{Kind: ErrTooManyRooms, Op: "find room"}
	}
	return nil, consistent, nil
}

func withSlug(p *page, slug string) json.RawMessage {
	for _, room := range p.rooms {
		var text string
		if room.slug != nil && json.Unmarshal(room.slug, &text) == nil && text == slug {
			return room.JSON
		}
	}
	return nil
}
