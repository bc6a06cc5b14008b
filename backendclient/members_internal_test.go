// SPDX-License-Identifier: MIT

package backendclient

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestMembers(t *testing.T) {
	t.Parallel()
	object := []byte(` { "a" : 1 ,"b":[1,{"x":"]"}], "c\"d" : "}\\" , "e":null,"f":{} } `)
	got := map[string]string{}
	for key, value := range Members(object) {
		got[key] = string(value)
	}
	require.Equal(t, map[string]string{"a": "1", "b": `[1,{"x":"]"}]`, `c"d`: `"}\\"`, "e": "null", "f": "{}"}, got)

	for _, other := range []string{`[]`, `1`, `"{"`, `{}`, ` { } `} {
		for key := range Members([]byte(other)) {
			t.Errorf("%s has member %s", other, key)
		}
	}
}

// FuzzSplit compares the splitting of valid JSON with encoding/json.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		`{"count":45,"next":"https://meet.example.org/?page=2","previous":null,"results":[{"id":"a","name":"\"]}"},{"id":"b"}]}`,
		`[ 1 , "a,b" , [ ] , { } , true,-1.5e3 ]`, `{"a":{"b":[{}]}}`, `{"a\\":"\\\\"}`, `null`, `12`, `[[[]]]`, " [\n1\t]\r",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) {
			t.Skip()
		}
		var array []json.RawMessage
		s := scanner{json: data}
		rooms := s.rooms()
		if json.Unmarshal(data, &array) == nil && len(array) > maxPageRooms {
			require.False(t, s.done())
		} else if array != nil {
			require.Len(t, rooms, len(array))
			for i := range array {
				require.Equal(t, string(array[i]), string(rooms[i].JSON))
				require.Equal(t, string(member(array[i], "id")), string(rooms[i].id))
				require.Equal(t, hasNull(array[i]), rooms[i].HasNull)
			}
		} else {
			require.Nil(t, rooms)
		}

		n, last := 0, map[string]json.RawMessage{}
		for key, value := range Members(data) {
			n++
			last[key] = value
			require.True(t, json.Valid(value))
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(data, &object) == nil {
			if !utf8.Valid(data) {
				return // encoding/json repairs invalid names, so two may become equal
			}
			require.Len(t, last, len(object))
			for key, value := range object {
				require.Equal(t, string(value), string(last[key]))
				require.Equal(t, string(value), string(member(data, key)))
			}
			// Keys may be repeated.
			require.GreaterOrEqual(t, n, len(object))
		} else {
			require.Zero(t, n)
		}
	})
}

// hasNull reports whether there is a null in JSON.
func hasNull(text []byte) bool {
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		token, err := d.Token()
		if err != nil {
			return false
		}
		if token == nil {
			return true
		}
	}
}

func TestReadRoom(t *testing.T) {
	t.Parallel()
	for room, want := range map[string][2]string{
		`{"id":"5eed","name":"x","slug":"abc-def"}`:           {"5eed", "abc-def"},
		` { "slug" : "s" , "nested": {"id":"no"}, "id":"1" }`: {"1", "s"},
		`{"id":7,"slug":null}`:                                {},
		`{"id":"a\u0062","slug":"s"}`:                         {"", "s"},
		`{"\u0069d":"a","SLUG":"s"}`:                          {"a", ""},
		`{"id":"a","id":"b","slug":"s","slug":null}`:          {"b", ""},
		`{}`: {},
		`[]`: {},
		``:   {},
	} {
		r := ReadRoom([]byte(room))
		require.Equal(t, want, [2]string{r.ID(), r.Slug()}, room)
	}
}
