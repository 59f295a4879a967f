package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

const (
	structured = "application/cloudevents+json"
	batch      = "application/cloudevents-batch+json"
	wanted     = "it must be func(http.ResponseWriter, *http.Request), an http.Handler, or a function of a CloudEvent: " +
		"func([context.Context,] cloudevents.Event) ([result,] [error])"
)

// handler answers one request; its error is the function's.
type handler func(http.ResponseWriter, *http.Request) error

var (
	contextType = reflect.TypeFor[context.Context]()
	eventType   = reflect.TypeFor[event.Event]()
	errorType   = reflect.TypeFor[error]()
)

// adapt tells once, at start, how the function is called. A function of requests gets every request as it is; a
// function of events gets CloudEvents only. What that one returns is the answer: nothing is 204, a CloudEvent is sent
// as one (a Broker takes it as the reply), text and bytes go as they are, everything else as JSON.
func adapt(function any) (handler, error) {
	switch served := function.(type) {
	case func(http.ResponseWriter, *http.Request):
		return requests(http.HandlerFunc(served)), nil
	case http.Handler:
		return requests(served), nil
	}
	shape := reflect.TypeOf(function)
	if !takesEvents(shape) || !returnsAnAnswer(shape) {
		return nil, fmt.Errorf("the handler is %v; %s", shape, wanted)
	}
	return events(reflect.ValueOf(function), shape), nil
}

func requests(served http.Handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		served.ServeHTTP(w, r)
		return nil
	}
}

func takesEvents(shape reflect.Type) bool {
	if shape == nil || shape.Kind() != reflect.Func || shape.IsVariadic() || shape.NumIn() == 0 || shape.NumIn() > 2 {
		return false
	}
	last := shape.In(shape.NumIn() - 1)
	return (last == eventType || last == reflect.PointerTo(eventType)) && (shape.NumIn() == 1 || shape.In(0) == contextType)
}

func returnsAnAnswer(shape reflect.Type) bool {
	return shape.NumOut() <= 1 || (shape.NumOut() == 2 && shape.Out(1) == errorType && shape.Out(0) != errorType)
}

func events(function reflect.Value, shape reflect.Type) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		received, err := eventOf(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return nil
		}
		result, err := resultOf(function.Call(arguments(shape, r.Context(), received)))
		if status := statusOf(err); status != 0 {
			w.WriteHeader(status)
			return nil
		}
		if err != nil {
			return err
		}
		return send(w, result)
	}
}

func arguments(shape reflect.Type, ctx context.Context, received *event.Event) []reflect.Value {
	given := reflect.ValueOf(received)
	if shape.In(shape.NumIn()-1) == eventType {
		given = given.Elem()
	}
	if shape.NumIn() == 1 {
		return []reflect.Value{given}
	}
	return []reflect.Value{reflect.ValueOf(ctx), given}
}

func resultOf(returned []reflect.Value) (any, error) {
	if len(returned) == 0 {
		return nil, nil
	}
	last, count := returned[len(returned)-1], len(returned)
	if last.Type() != errorType {
		return last.Interface(), nil
	}
	err, _ := last.Interface().(error)
	if count == 1 {
		return nil, err
	}
	return returned[0].Interface(), err
}

// statusOf is what the function asks for by cehttp.NewResult, 0 when it does not; a failure of it is one like others.
func statusOf(err error) int {
	var asked *cehttp.Result
	if !errors.As(err, &asked) || asked.StatusCode < 200 || asked.StatusCode >= 500 {
		return 0
	}
	return asked.StatusCode
}

// eventOf reads the CloudEvent that the request carries; the content type decides how. Errors are the sender's.
func eventOf(r *http.Request) (*event.Event, error) {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	if kind == batch {
		return nil, errors.New("batches of CloudEvents are not supported")
	}
	if kind != structured && r.Header.Get("Ce-Specversion") == "" {
		return nil, fmt.Errorf("not a CloudEvent: %s", lacking(r.Header))
	}
	headers, err := decoded(r.Header)
	if err != nil {
		return nil, err
	}
	if kind == structured {
		headers.Set("Content-Type", structured)
	}
	received, err := binding.ToEvent(r.Context(), cehttp.NewMessage(headers, r.Body))
	if err == nil {
		err = received.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("not a CloudEvent: %v", err)
	}
	trace(received, r.Header)
	return received, nil
}

func lacking(headers http.Header) string {
	for name := range headers {
		if strings.HasPrefix(name, "Ce-") {
			return "specversion missing"
		}
	}
	return "this function takes CloudEvents only"
}

// trace hands the request's W3C trace context on, as the event's extensions of those names.
func trace(received *event.Event, headers http.Header) {
	for _, name := range []string{"traceparent", "tracestate"} {
		if value := headers.Get(name); value != "" {
			received.SetExtension(name, value)
		}
	}
}

// decoded undoes the percent-encoding of CloudEvents in HTTP headers, which the SDK leaves to us.
func decoded(headers http.Header) (http.Header, error) {
	found := headers.Clone()
	for name, values := range found {
		if !strings.HasPrefix(name, "Ce-") {
			continue
		}
		for number, value := range values {
			plain, err := url.PathUnescape(value)
			if err != nil || !utf8.ValidString(plain) {
				return nil, errors.New("not a CloudEvent: a header is not percent-encoded UTF-8")
			}
			values[number] = plain
		}
	}
	return found, nil
}

func send(w http.ResponseWriter, result any) error {
	if value := reflect.ValueOf(result); !value.IsValid() || (value.Kind() == reflect.Pointer && value.IsNil()) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	switch answer := result.(type) {
	case event.Event:
		return sendEvent(w, answer)
	case *event.Event:
		return sendEvent(w, *answer)
	case string:
		return write(w, "text/plain; charset=utf-8", []byte(answer))
	case []byte:
		return write(w, "application/octet-stream", answer)
	}
	content, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("the handler's result is no answer: %w", err)
	}
	return write(w, "application/json", content)
}

func sendEvent(w http.ResponseWriter, reply event.Event) error {
	if reply.ID() == "" {
		reply.SetID(opaque())
	}
	content, err := json.Marshal(reply) // validates it
	if err != nil {
		return fmt.Errorf("the handler's result is no CloudEvent: %w", err)
	}
	return write(w, structured, content)
}

// write leaves out what a client that is gone does not read; the server has closed its connection.
func write(w http.ResponseWriter, kind string, content []byte) error {
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(content)
	return nil
}
