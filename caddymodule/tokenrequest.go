package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// grantClientCredentials is the published grant (RFC 6749 section 4.4).
const grantClientCredentials = "client_credentials"

// maxFormFields bounds the fields of a form, as Django does.
const maxFormFields = 100

// tokenRequest is a request to the token endpoint, fields trimmed. It prints
// without credentials and mail.
type tokenRequest struct {
	clientID, clientSecret, grantType, scope string
	// basic is true if the client authenticated by HTTP Basic.
	basic bool
}

// String shows nothing that was sent.
func (tokenRequest) String() string { return "token request" }

// GoString is String.
func (r tokenRequest) GoString() string { return r.String() }

// fieldErrors are the texts for each field that is wrong, in Meet's words.
type fieldErrors map[string][]string

func (fieldErrors) Error() string { return "invalid fields" }

func (e fieldErrors) add(field, text string) { e[field] = append(e[field], text) }

// requestError is a request that cannot be read at all.
type requestError struct {
	status int
	text   string
}

func (e *requestError) Error() string { return e.text }

var errTwoCredentials = errors.New("client credentials were sent in more than one way")

// fieldRequired is Meet's text for a field that is not there.
const fieldRequired = "This field is required."

// readBody reads a whole body of at most limit bytes. Beyond it the error is a
// requestError 413.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, errBodyTooLarge(limit)
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, errBodyTooLarge(limit)
		}
		return nil, &requestError{http.StatusBadRequest, "The request body could not be read."}
	}
	return body, nil
}

func errBodyTooLarge(limit int64) error {
	return &requestError{http.StatusRequestEntityTooLarge, fmt.Sprintf("The request body must not be larger than %d bytes.", limit)}
}

// mediaType returns the media type of a request's body without parameters, or
// empty if it has none. More than one Content-Type has no meaning.
func mediaType(h http.Header) (string, error) {
	values := h["Content-Type"]
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", &requestError{http.StatusBadRequest, "More than one Content-Type header."}
	}
	mt, _, err := mime.ParseMediaType(values[0])
	if err != nil && mt == "" {
		return "", unsupportedMediaType(values[0])
	}
	return mt, nil
}

func unsupportedMediaType(mt string) error {
	if len(mt) > 100 || !utf8.ValidString(mt) {
		mt = ""
	}
	return &requestError{http.StatusUnsupportedMediaType, fmt.Sprintf("Unsupported media type \"%s\" in request.", mt)}
}

// parseTokenRequest reads the body of a token request (RFC 6749 section 4.4.2
// as Meet takes it: JSON or form) and joins it with HTTP Basic client
// authentication (section 2.3.1). Errors are fieldErrors, *requestError or
// errTwoCredentials.
func parseTokenRequest(h http.Header, body []byte) (tokenRequest, error) {
	var fields map[string]*string // nil value: null
	var err error
	switch mt, typeErr := mediaType(h); {
	case typeErr != nil:
		return tokenRequest{}, typeErr
	case mt == "application/json":
		fields, err = parseJSONFields(body)
	case mt == "application/x-www-form-urlencoded":
		fields, err = parseFormFields(string(body))
	case mt == "" && len(body) == 0:
	default:
		return tokenRequest{}, unsupportedMediaType(h.Get("Content-Type"))
	}
	if err != nil {
		return tokenRequest{}, err
	}

	// Any other scheme is ignored here, as at Meet: some clients send their last
	// Bearer token with everything.
	auth, err := parseAuthorization(h)
	if err != nil && (auth.scheme == schemeBasic || errors.Is(err, errAuthorizationRepeated)) {
		return tokenRequest{}, &requestError{http.StatusBadRequest, "Malformed Authorization header."}
	}
	var req tokenRequest
	if auth.scheme == schemeBasic {
		id, secret := formDecoded(auth.id), formDecoded(auth.secret)
		if _, twice := fields["client_secret"]; twice {
			return tokenRequest{}, errTwoCredentials
		}
		if other := fields["client_id"]; other != nil && *other != id {
			return tokenRequest{}, errTwoCredentials
		}
		req.clientID, req.clientSecret, req.basic = id, secret, true
	}
	return req, req.fill(fields)
}

// fill takes the fields over and reports those that are wrong, all at once.
func (r *tokenRequest) fill(fields map[string]*string) error {
	wrong := fieldErrors{}
	take := func(name string, dst *string) {
		value, sent := fields[name]
		switch {
		case !sent:
			wrong.add(name, fieldRequired)
		case value == nil:
			wrong.add(name, "This field may not be null.")
		case value == &notAString:
			wrong.add(name, "Not a valid string.")
		case strings.Contains(*value, "\x00"):
			wrong.add(name, "Null characters are not allowed.")
		case strings.TrimSpace(*value) == "":
			wrong.add(name, "This field may not be blank.")
		default:
			*dst = strings.TrimSpace(*value)
		}
	}
	if !r.basic {
		take("client_id", &r.clientID)
		take("client_secret", &r.clientSecret)
	}
	take("grant_type", &r.grantType)
	take("scope", &r.scope)
	// The place where another grant_type becomes possible.
	if r.grantType != "" && r.grantType != grantClientCredentials {
		wrong.add("grant_type", fmt.Sprintf("%q is not a valid choice.", r.grantType))
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// notAString stands for a JSON value that cannot be read as text.
var notAString string

// parseJSONFields reads the fields of a flat JSON object. Numbers count as their
// text, as at Meet.
func parseJSONFields(body []byte) (map[string]*string, error) {
	object, err := parseJSONObject(body)
	if err != nil || object == nil {
		return nil, err
	}
	fields := make(map[string]*string, len(object))
	for name, raw := range object {
		fields[name] = textOf(raw)
	}
	return fields, nil
}

// textOf reads a JSON value as text: nil for null, notAString for what is
// neither a string nor a number.
func textOf(raw json.RawMessage) *string {
	var text string
	switch c := raw[0]; {
	case c == '"':
		if json.Unmarshal(raw, &text) != nil {
			return &notAString
		}
	case c == '-' || '0' <= c && c <= '9':
		text = string(raw)
	case c == 'n':
		return nil
	default:
		return &notAString
	}
	return &text
}

// parseFormFields reads an application/x-www-form-urlencoded body. A parameter
// must not be there twice (RFC 6749 section 3.2).
func parseFormFields(body string) (map[string]*string, error) {
	fields := make(map[string]*string)
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		key, errKey := url.QueryUnescape(key)
		value, errValue := url.QueryUnescape(value)
		if errKey != nil || errValue != nil || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, &requestError{http.StatusBadRequest, "Malformed form."}
		}
		if _, twice := fields[key]; twice {
			return nil, &requestError{http.StatusBadRequest, "A form field is there twice."}
		}
		if len(fields) == maxFormFields {
			return nil, &requestError{http.StatusBadRequest, "Too many form fields."}
		}
		fields[key] = &value
	}
	return fields, nil
}
