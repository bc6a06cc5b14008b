// SPDX-License-Identifier: MIT

package docs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
)

// api is the part of the OpenAPI description that the page shows.
type api struct {
	About  template.HTML
	Groups []*group
}

// group is a tag with its operations.
type group struct {
	Name, About string
	Operations  []*operation
}

type operation struct {
	ID, Method, Path, Title string
	About                   template.HTML
	Parameters, Fields      []field
	Request                 string // an example
	Answers                 []answer
}

// field is a parameter or a member of a body.
type field struct {
	Name, In, Type string
	Required       bool
	About          template.HTML
}

type answer struct {
	Status, About, Example string
}

// The parts of the OpenAPI document that the page uses.
type (
	document struct {
		Info  struct{ Description string }
		Tags  []struct{ Name, Description string }
		Paths map[string]map[string]struct {
			Tags                 []string
			OperationID          string
			Summary, Description string
			Parameters           []reference[parameter]
			RequestBody          struct{ Content map[string]media }
			Responses            map[string]reference[response]
		}
		Components struct {
			Parameters map[string]parameter
			Responses  map[string]response
			Schemas    map[string]schema
		}
	}
	reference[T any] struct {
		Ref   string `json:"$ref"`
		Value T
	}
	parameter struct {
		Name, In, Description string
		Required              bool
		Schema                schema
	}
	response struct {
		Description string
		Content     map[string]media
	}
	media struct {
		Schema   schema
		Examples map[string]struct{ Value json.RawMessage }
	}
	schema struct {
		Ref         string `json:"$ref"`
		Type        any
		Description string
		Required    []string
		Properties  map[string]schema
	}
)

// UnmarshalJSON implements json.Unmarshaler. The value is a reference, or stands in place.
func (r *reference[T]) UnmarshalJSON(text []byte) error {
	var ref struct {
		Ref string `json:"$ref"`
	}
	if err := json.Unmarshal(text, &ref); err != nil {
		return err //nolint:wrapcheck // passed on by encoding/json
	}
	r.Ref = ref.Ref
	return json.Unmarshal(text, &r.Value) //nolint:wrapcheck // passed on by encoding/json
}

func (r *reference[T]) resolve(components map[string]T) T {
	if i := strings.LastIndexByte(r.Ref, '/'); i >= 0 {
		return components[r.Ref[i+1:]]
	}
	return r.Value
}

// methods are in the order of the page.
var methods = []string{"get", "post", "put", "patch", "delete"}

// parse reads a description and translates its titles.
func parse(description []byte, lang string) (*api, error) {
	var d document
	if err := json.Unmarshal(description, &d); err != nil {
		return nil, fmt.Errorf("reading the description of the API: %w", err)
	}
	about, err := markdown(d.Info.Description)
	if err != nil {
		return nil, err
	}
	a := &api{About: about}
	groups := map[string]*group{}
	for _, tag := range d.Tags {
		g := &group{Name: translated(lang, tag.Name), About: translated(lang, tag.Description)}
		groups[tag.Name] = g
		a.Groups = append(a.Groups, g)
	}
	for _, path := range slices.SortedFunc(maps.Keys(d.Paths), tokenFirst) {
		for _, method := range methods {
			described, ok := d.Paths[path][method]
			if !ok || len(described.Tags) == 0 || groups[described.Tags[0]] == nil {
				continue
			}
			o := &operation{ID: described.OperationID, Method: strings.ToUpper(method), Path: path, Title: translated(lang, described.Summary)}
			if o.About, err = markdown(described.Description); err != nil {
				return nil, err
			}
			for _, r := range described.Parameters {
				p := r.resolve(d.Components.Parameters)
				if err := addField(&o.Parameters, p.Name, p.In, p.Required, p.Description, p.Schema); err != nil {
					return nil, err
				}
			}
			if err := o.describeBody(&d, described.RequestBody.Content); err != nil {
				return nil, err
			}
			for _, status := range slices.Sorted(maps.Keys(described.Responses)) {
				r := described.Responses[status]
				o.describeAnswer(status, r.resolve(d.Components.Responses))
			}
			g := groups[described.Tags[0]]
			g.Operations = append(g.Operations, o)
		}
	}
	return a, nil
}

// tokenFirst sorts paths by name, after the token endpoint.
func tokenFirst(a, b string) int {
	const token = "/application/token"
	if (a == token) != (b == token) {
		return map[bool]int{true: -1, false: 1}[a == token]
	}
	return strings.Compare(a, b)
}

func (o *operation) describeBody(d *document, content map[string]media) error {
	kinds := slices.Sorted(maps.Keys(content))
	if len(kinds) == 0 {
		return nil
	}
	m := content[kinds[0]] // JSON if it is among them
	s := m.Schema
	if i := strings.LastIndexByte(s.Ref, '/'); i >= 0 {
		s = d.Components.Schemas[s.Ref[i+1:]]
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		if err := addField(&o.Fields, name, "", slices.Contains(s.Required, name), p.Description, p); err != nil {
			return err
		}
	}
	o.Request = firstExample(m)
	return nil
}

func (o *operation) describeAnswer(status string, r response) {
	a := answer{Status: status, About: r.Description}
	for _, m := range r.Content {
		a.Example = firstExample(m)
	}
	o.Answers = append(o.Answers, a)
}

func addField(to *[]field, name, in string, required bool, description string, s schema) error {
	about, err := markdown(cmp.Or(description, s.Description))
	if err != nil {
		return err
	}
	kind := ""
	switch t := s.Type.(type) {
	case string:
		kind = t
	case []any:
		for _, one := range t {
			kind += fmt.Sprint(one) + " "
		}
	}
	*to = append(*to, field{Name: name, In: in, Type: strings.TrimSpace(kind), Required: required, About: about})
	return nil
}

// firstExample returns the first example by name.
func firstExample(m media) string {
	for _, name := range slices.Sorted(maps.Keys(m.Examples)) {
		return indented(m.Examples[name].Value)
	}
	return ""
}
