// SPDX-License-Identifier: MIT

package sandbox

// Object is object.
type Object = object

// ErrTooDeep is errTooDeep.
var ErrTooDeep = errTooDeep

// WithParser replaces parseJSON.
func WithParser(parse func(body []byte) (any, error)) Option {
	return func(m *Meet) { m.parseJSON = parse }
}
