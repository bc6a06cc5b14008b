// SPDX-License-Identifier: MIT

package sandbox

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// typeName returns Python's name of a value's type.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case json.Number:
		return "int"
	case float64:
		return "float"
	case []any:
		return "list"
	case *object:
		return "dict"
	}
	return "str"
}

// pythonText is Python's str() of a value, as Meet quotes refused values.
func pythonText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return pythonLiteral(v)
}

// pythonLiteral is Python's repr() of a value.
func pythonLiteral(v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "True"
		}
		return "False"
	case json.Number:
		return v.String()
	case float64:
		return pythonFloat(v)
	case string:
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(v) + "'"
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = pythonLiteral(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case *object:
		parts := make([]string, len(v.Keys))
		for i, k := range v.Keys {
			parts[i] = pythonLiteral(k) + ": " + pythonLiteral(v.Values[k])
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return "None"
}

func pythonFloat(f float64) string {
	switch {
	case math.IsInf(f, 0):
		return strings.TrimPrefix(strings.ToLower(strconv.FormatFloat(f, 'g', -1, 64)), "+")
	case f == math.Trunc(f) && math.Abs(f) < 1e16:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// pythonStrip is str.strip().
func pythonStrip(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f })
}

// surrogate returns the first half of a surrogate pair in a parsed string.
func surrogate(s string) (rune, bool) {
	for at := 0; at < len(s); {
		r, size := utf8.DecodeRuneInString(s[at:])
		if r == utf8.RuneError && size == 1 && at+2 < len(s) {
			return rune(s[at]&0x0f)<<12 | rune(s[at+1]&0x3f)<<6 | rune(s[at+2]&0x3f), true
		}
		at += size
	}
	return 0, false
}
