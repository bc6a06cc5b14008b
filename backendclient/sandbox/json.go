// SPDX-License-Identifier: MIT

package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// object is a JSON object that keeps the order of its keys.
type object struct {
	Keys   []string
	Values map[string]any
}

// MarshalJSON writes the keys in their order.
func (o *object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, k := range o.Keys {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(k)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(o.Values[k])
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// errTooDeep is the error for JSON that is nested so deeply that Meet fails on it.
var errTooDeep = errors.New("maximum recursion depth exceeded")

var errSyntax = errors.New("the body is not valid JSON")

// parseJSON reads a body like Meet, except for texts that only Python accepts; its errors say
// less. Values are nil, bool, string, [json.Number] for integers, float64, []any and *object.
// The client sees the error text.
func parseJSON(body []byte) (any, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true))
	v, err := parseValue(dec)
	if err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errSyntax
	}
	return v, nil
}

func parseValue(dec *jsontext.Decoder) (any, error) {
	token, err := dec.ReadToken()
	if err != nil {
		return nil, errSyntax
	}
	switch token.Kind() {
	case '{':
		return parseObject(dec)
	case '[':
		list := []any{}
		for dec.PeekKind() != ']' {
			v, err := parseValue(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.ReadToken()
		return list, err
	case '"':
		return token.String(), nil
	case '0':
		return parseNumber(token.String()), nil
	case 't', 'f':
		return token.Bool(), nil
	default: // null
		return nil, nil
	}
}

func parseObject(dec *jsontext.Decoder) (any, error) {
	o := &object{Values: map[string]any{}}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, errSyntax
		}
		key := name.String()
		v, err := parseValue(dec)
		if err != nil {
			return nil, err
		}
		if _, again := o.Values[key]; !again {
			o.Keys = append(o.Keys, key)
		}
		o.Values[key] = v
	}
	_, err := dec.ReadToken()
	return o, err
}

// parseNumber returns integers as they are written, and other numbers as float64.
func parseNumber(literal string) any {
	if strings.ContainsAny(literal, ".eE") {
		f, _ := strconv.ParseFloat(literal, 64) // infinite where out of range
		return f
	}
	return json.Number(literal)
}
