// SPDX-License-Identifier: MIT

package sandbox

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Django REST framework's work before a view gets a request.

// maxFormFields is DATA_UPLOAD_MAX_NUMBER_FIELDS, above which Django answers
// 400 in HTML.
const maxFormFields = 1000

// negotiate refuses requests for anything but JSON, the only format.
func (c *call) negotiate() *answer {
	query := parseQuery(c.r.URL.RawQuery)
	if format := query.last("format"); format != "" && format != "json" {
		return c.detail(http.StatusNotFound, c.text(textNotFound))
	}
	accept := c.r.Header.Values("Accept")
	if len(accept) == 0 {
		return nil
	}
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		mediaType, _, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(mediaType)) {
		case "*/*", "application/*", "application/json":
			return nil
		}
	}
	return c.detail(http.StatusNotAcceptable, c.text(textAccept))
}

func (c *call) methodNotAllowed() *answer {
	return c.detail(http.StatusMethodNotAllowed, c.text(textMethod, c.r.Method))
}

// Media types of request bodies.
const (
	mediaJSON      = "application/json"
	mediaForm      = "application/x-www-form-urlencoded"
	mediaMultipart = "multipart/form-data"
)

// data parses the body as one of the media types. A body without Content-Length, such as a
// chunked one, counts as none; no body counts as an empty object, of any Content-Type.
func (c *call) data(mediaTypes ...string) (any, *answer) {
	if c.r.ContentLength <= 0 {
		return &object{}, nil
	}
	contentType := c.r.Header.Get("Content-Type")
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	if !slices.Contains(mediaTypes, mediaType) {
		return nil, c.detail(http.StatusUnsupportedMediaType, c.text(textMediaType, contentType))
	}
	return c.parse(mediaType, contentType)
}

func (c *call) parse(mediaType, contentType string) (any, *answer) {
	switch mediaType {
	case mediaForm:
		form := parseQuery(string(c.body))
		if form.count > maxFormFields {
			return nil, c.page(badRequestPage)
		}
		return form.object(), nil
	case mediaMultipart:
		return c.parseMultipart(contentType)
	}
	v, err := c.parseJSON(c.body)
	if errors.Is(err, errTooDeep) {
		return nil, c.page(serverErrorPage)
	}
	if err != nil {
		return nil, c.detail(http.StatusBadRequest, "JSON parse error - "+err.Error())
	}
	return v, nil
}

func (c *call) parseMultipart(contentType string) (any, *answer) {
	refuse := func(text string) *answer {
		return c.detail(http.StatusBadRequest, "Multipart form parse error - "+text)
	}
	_, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || parameters["boundary"] == "" {
		return nil, refuse("Invalid boundary in multipart: None")
	}
	form := values{fields: map[string][]string{}}
	parts := multipart.NewReader(bytes.NewReader(c.body), parameters["boundary"])
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return form.object(), nil
		}
		if err != nil {
			return nil, refuse(err.Error())
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return nil, refuse(err.Error())
		}
		form.add(part.FormName(), string(text))
	}
}

// dictionary returns the object that a serializer requires, or an error.
func (c *call) dictionary(data any) (*object, *answer) {
	o, ok := data.(*object)
	if ok {
		return o, nil
	}
	text := "No data provided"
	if data != nil {
		text = c.text(textDictionary, typeName(data))
	}
	return nil, c.json(http.StatusBadRequest, map[string]any{"non_field_errors": []any{text}})
}

// values are the fields of a query or form like Django's QueryDict: any text is valid, and ;
// is no separator.
type values struct {
	keys   []string // in the order of their first appearance
	fields map[string][]string
	count  int
}

func parseQuery(query string) values {
	v := values{fields: map[string][]string{}}
	for field := range strings.SplitSeq(query, "&") {
		if field == "" {
			continue
		}
		name, value, _ := strings.Cut(field, "=")
		v.add(unescapeField(name), unescapeField(value))
	}
	return v
}

func (v *values) add(name, value string) {
	if _, known := v.fields[name]; !known {
		v.keys = append(v.keys, name)
	}
	v.fields[name] = append(v.fields[name], value)
	v.count++
}

// last returns the last value of a field, which Django uses.
func (v *values) last(name string) string {
	if all := v.fields[name]; len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

func (v *values) object() *object {
	o := &object{Keys: v.keys, Values: make(map[string]any, len(v.keys))}
	for _, k := range v.keys {
		o.Values[k] = v.last(k)
	}
	return o
}

// unescapeField decodes a name or value; text with a broken escape stays as it is.
func unescapeField(s string) string {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return s
	}
	return strings.ToValidUTF8(plain, "\ufffd")
}
