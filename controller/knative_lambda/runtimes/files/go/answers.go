package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"

	"github.com/cloudevents/sdk-go/v2/event"
)

const allowed = "what JSON can hold, string, []byte, cloudevents.Event, *http.Response, nil"

// send makes the answer of what a function returned.
func send(w http.ResponseWriter, result any) error {
	if none(reflect.ValueOf(result)) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	switch answer := result.(type) {
	case event.Event:
		return sendEvent(w, answer)
	case *event.Event:
		return sendEvent(w, *answer)
	case *http.Response:
		return sendResponse(w, answer)
	case string:
		write(w, "text/html; charset=utf-8", []byte(answer))
		return nil
	case []byte:
		write(w, "application/octet-stream", answer)
		return nil
	}
	content, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("the handler returned %T: %w; allowed: %s", result, err, allowed)
	}
	write(w, "application/json", content)
	return nil
}

// none is nil, of whatever type.
func none(value reflect.Value) bool {
	switch value.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.UnsafePointer, reflect.Slice, reflect.Map, reflect.Chan, reflect.Func, reflect.Interface:
		return value.IsNil()
	}
	return false
}

func sendEvent(w http.ResponseWriter, reply event.Event) error {
	if reply.Context != nil && reply.ID() == "" {
		reply = reply.Clone() // the function may keep the event, and its attributes are behind a pointer
		reply.SetID(opaque())
	}
	content, err := json.Marshal(reply)
	if err == nil {
		err = reply.Validate()
	}
	if err != nil {
		return fmt.Errorf("the handler returned a CloudEvent that is none: %s; allowed: %s", inOneLine(err), allowed)
	}
	write(w, structured, content)
	return nil
}

// sendResponse takes the status, headers and body that the function wants; no status is 200.
func sendResponse(w http.ResponseWriter, answer *http.Response) error {
	if answer.Body != nil {
		defer answer.Body.Close()
	}
	status := answer.StatusCode
	if status == 0 {
		status = http.StatusOK
	}
	if status < 200 || status > 599 {
		return fmt.Errorf("the handler returned the status %d; allowed: 200 to 599", status)
	}
	for name, values := range answer.Header {
		for _, value := range values {
			w.Header().Add(name, value)
		}
	}
	w.WriteHeader(status)
	if answer.Body == nil {
		return nil
	}
	if _, err := io.Copy(w, reading{answer.Body}); errors.As(err, &unread{}) {
		return fmt.Errorf("the body of the handler's answer cannot be read: %w", err)
	}
	return nil
}

// reading tells errors of a body from those of a client that is gone.
type reading struct{ io.Reader }

type unread struct{ error }

func (r reading) Read(into []byte) (int, error) {
	count, err := r.Reader.Read(into)
	if err != nil && err != io.EOF {
		err = unread{err}
	}
	return count, err
}

// write leaves out what a client that is gone does not read; the server has closed its connection.
func write(w http.ResponseWriter, kind string, content []byte) {
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(content)
}
