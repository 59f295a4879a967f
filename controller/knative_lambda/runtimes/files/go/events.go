package shim

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

const (
	structured = "application/cloudevents+json"
	formats    = "application/cloudevents"
)

var (
	required  = []string{"specversion", "id", "source", "type"}
	optional  = []string{"datacontenttype", "dataschema", "subject", "time"}
	versions  = []string{"1.0", "0.3"}
	escaped   = regexp.MustCompile(`(%[0-9A-Fa-f]{2})+`)
	plainName = regexp.MustCompile(`^[a-z0-9]+$`)
	moment    = regexp.MustCompile(`^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3])(:[0-5]\d){2}(\.\d+)?` +
		`(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)
)

// refusal is an answer to a request that is the sender's fault.
type refusal struct {
	status int
	words  string
}

func (r refusal) Error() string { return r.words }

func noEvent(format string, arguments ...any) error {
	return refusal{http.StatusBadRequest, "not a CloudEvent: " + fmt.Sprintf(format, arguments...)}
}

// eventOf reads the CloudEvent that the request carries; the content type decides how. Errors are the sender's.
func eventOf(r *http.Request) (*event.Event, error) {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	has := func(name string) bool { return len(r.Header.Values("ce-"+name)) > 0 }
	switch {
	case kind == structured:
		return structuredOf(r)
	case strings.HasPrefix(kind, formats):
		return nil, refusal{http.StatusUnsupportedMediaType, fmt.Sprintf("%s is not taken: send each event by itself, as %s or "+
			"in headers", kind, structured)}
	case !slices.ContainsFunc(required, has):
		return nil, noEvent("this function takes CloudEvents only")
	}
	return binaryOf(r)
}

func structuredOf(r *http.Request) (*event.Event, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, noEvent("the body cannot be read")
	}
	var content any
	if err := json.Unmarshal(body, &content); err != nil {
		return nil, noEvent("the body is not JSON (%v)", err)
	}
	attributes, ok := content.(map[string]any)
	if !ok {
		return nil, noEvent("the body is not a JSON object")
	}
	if err := check(attributes); err != nil {
		return nil, err
	}
	received := &event.Event{}
	if err := valid(received, withoutData(body, received)); err != nil {
		return nil, err
	}
	return received, setData(received, body)
}

// withoutData reads the attributes alone: what the SDK makes of the data depends on the order in which it finds them.
func withoutData(body []byte, into *event.Event) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return err
	}
	delete(fields, "data")
	delete(fields, "data_base64")
	attributes, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return json.Unmarshal(attributes, into)
}

// setData takes bytes as they are, text as its bytes unless JSON is wanted, and everything else as JSON.
func setData(received *event.Event, body []byte) error {
	var held struct {
		Data  json.RawMessage `json:"data"`
		Bytes []byte          `json:"data_base64"`
	}
	if err := json.Unmarshal(body, &held); err != nil {
		return noEvent("%v", err)
	}
	var text string
	kind := received.DataContentType()
	switch {
	case held.Bytes != nil:
		received.DataEncoded, received.DataBase64 = held.Bytes, true
	case string(held.Data) == "null":
	case kind != "" && !isJSON(kind) && json.Unmarshal(held.Data, &text) == nil:
		received.DataEncoded = []byte(text)
	default:
		received.DataEncoded = held.Data
	}
	return nil
}

func isJSON(contentType string) bool {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	kind = strings.TrimSpace(kind)
	return kind == "application/json" || strings.HasSuffix(kind, "+json")
}

func binaryOf(r *http.Request) (*event.Event, error) {
	headers, err := decoded(r.Header)
	if err != nil {
		return nil, err
	}
	attributes := map[string]any{}
	for name, values := range headers {
		if attribute, ok := strings.CutPrefix(name, "Ce-"); ok {
			attributes[strings.ToLower(attribute)] = values[0]
		}
	}
	if err := check(attributes); err != nil {
		return nil, err
	}
	received, err := binding.ToEvent(r.Context(), cehttp.NewMessage(headers, r.Body))
	if err := valid(received, err); err != nil {
		return nil, err
	}
	if isJSON(received.DataContentType()) && len(received.Data()) > 0 && !json.Valid(received.Data()) {
		return nil, noEvent("the data is not JSON")
	}
	return received, nil
}

func valid(received *event.Event, err error) error {
	if err == nil {
		err = received.Validate()
	}
	if err != nil {
		return noEvent("%s", inOneLine(err))
	}
	return nil
}

// inOneLine is for the SDK, which tells each mistake in a line of its own.
func inOneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", ", ")
}

// check is the same in every language; the SDK's own words differ, and it panics on data of both kinds.
func check(attributes map[string]any) error {
	missing := slices.DeleteFunc(slices.Clone(required), func(name string) bool {
		return attributes[name] != nil && attributes[name] != ""
	})
	if len(missing) > 0 {
		return noEvent("%s missing", strings.Join(missing, ", "))
	}
	wrong := slices.DeleteFunc(slices.Concat(required, optional), func(name string) bool {
		_, ok := attributes[name].(string)
		return ok || attributes[name] == nil
	})
	if len(wrong) > 0 {
		return noEvent("%s must be text", strings.Join(wrong, ", "))
	}
	if version, _ := attributes["specversion"].(string); !slices.Contains(versions, version) {
		return noEvent("specversion %s is not one of %s", version, strings.Join(versions, ", "))
	}
	if when, ok := attributes["time"].(string); ok && !isMoment(when) {
		return noEvent("time is not of the form 2026-01-31T12:00:00Z")
	}
	return checkRest(attributes)
}

// isMoment asks for the form first: Go's own parser takes offsets that others do not.
func isMoment(when string) bool {
	_, err := time.Parse(time.RFC3339, when)
	return err == nil && moment.MatchString(when)
}

func checkRest(attributes map[string]any) error {
	for name, value := range attributes {
		if name != "data" && name != "data_base64" && !plainName.MatchString(name) {
			return noEvent("%s is no name of an attribute: lower-case letters and digits only", name)
		}
		switch value.(type) {
		case map[string]any, []any:
			if name != "data" {
				return noEvent("%s must be text, a number or a boolean", name)
			}
		}
	}
	encoded, there := attributes["data_base64"]
	if !there {
		return nil
	}
	if _, both := attributes["data"]; both {
		return noEvent("data and data_base64 exclude each other")
	}
	text, ok := encoded.(string)
	_, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !ok || strings.ContainsAny(text, "\r\n") { // which Go skips
		return noEvent("data_base64 is not base64")
	}
	return nil
}

// decoded undoes the percent-encoding of CloudEvents in HTTP headers, which the SDK leaves to us. A % that encodes
// nothing is one: senders on sdk-go encode nothing at all.
func decoded(headers http.Header) (http.Header, error) {
	found := headers.Clone()
	for name, values := range found {
		if !strings.HasPrefix(name, "Ce-") {
			continue
		}
		for number, value := range values {
			plain := escaped.ReplaceAllStringFunc(value, unescaped)
			if !utf8.ValidString(plain) {
				return nil, noEvent("a header is not percent-encoded UTF-8")
			}
			values[number] = plain
		}
	}
	return found, nil
}

// unescaped turns %c3%a9 into its two bytes; it is called with nothing else.
func unescaped(run string) string {
	content, _ := hex.DecodeString(strings.ReplaceAll(run, "%", ""))
	return string(content)
}
