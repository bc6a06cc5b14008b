// SPDX-License-Identifier: MIT

package sandbox

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Meet checks a room's configuration with a pydantic model and answers with
// pydantic's list of faults.

const faultURL = "https://errors.pydantic.dev/2.13/v/"

// sources are what can_publish_sources may list.
var sources = []string{"camera", "microphone", "screen_share", "screen_share_audio"}

// booleanWords are the texts that pydantic accepts as booleans. Meet keeps them as received.
var booleanWords = []string{"0", "off", "f", "false", "n", "no", "1", "on", "t", "true", "y", "yes"}

// configurationFaults lists the faults of a configuration, known fields first.
func (c *call) configurationFaults(v any) []any {
	if v == nil {
		return []any{c.text(textNull)}
	}
	o, ok := v.(*object)
	if !ok {
		f := fault("model_type", "Input should be a valid dictionary or instance of RoomConfiguration", v)
		f["ctx"] = map[string]any{"class_name": "RoomConfiguration"}
		return []any{f}
	}
	faults := sourcesFaults(o.Values["can_publish_sources"])
	faults = append(faults, booleanFaults(o.Values["everyone_can_mute"])...)
	for _, k := range o.Keys {
		if k != "can_publish_sources" && k != "everyone_can_mute" {
			faults = append(faults, fault("extra_forbidden", "Extra inputs are not permitted", o.Values[k], k))
		}
	}
	return faults
}

func sourcesFaults(v any) []any {
	if v == nil {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		return []any{fault("list_type", "Input should be a valid list", v, "can_publish_sources")}
	}
	quoted := "'" + strings.Join(sources[:len(sources)-1], "', '") + "' or '" + sources[len(sources)-1] + "'"
	var faults []any
	for i, e := range list {
		if s, ok := e.(string); ok && slices.Contains(sources, s) {
			continue
		}
		f := fault("literal_error", "Input should be "+quoted, e, "can_publish_sources", strconv.Itoa(i))
		f["ctx"] = map[string]any{"expected": quoted}
		faults = append(faults, f)
	}
	return faults
}

func booleanFaults(v any) []any {
	var text string
	switch v := v.(type) {
	case nil, bool:
		return nil
	case []any, *object:
		return []any{fault("bool_type", "Input should be a valid boolean", v, "everyone_can_mute")}
	case float64:
		text = strings.TrimSuffix(pythonFloat(v), ".0")
	default:
		text = strings.ToLower(pythonText(v))
	}
	if slices.Contains(booleanWords, text) {
		return nil
	}
	return []any{fault("bool_parsing", "Input should be a valid boolean, unable to interpret input", v, "everyone_can_mute")}
}

// fault is one entry of pydantic's list.
func fault(kind, message string, input any, location ...string) map[string]any {
	loc := []any{}
	for _, l := range location {
		loc = append(loc, l)
	}
	return map[string]any{"type": kind, "loc": loc, "msg": message, "input": asTexts(input), "url": faultURL + kind}
}

// asTexts converts a value as Django REST framework does in an error: the elements of lists
// and objects become texts.
func asTexts(v any) any {
	switch v := v.(type) {
	case []any:
		texts := []any{}
		for _, e := range v {
			texts = append(texts, asTexts(e))
		}
		return texts
	case *object:
		texts := map[string]any{}
		for _, k := range v.Keys {
			texts[k] = asTexts(v.Values[k])
		}
		return texts
	case json.Number:
		return v.String()
	}
	return pythonText(v)
}
