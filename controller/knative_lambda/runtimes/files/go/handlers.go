package shim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/protocol"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

const wanted = "it must be func(http.ResponseWriter, *http.Request), an http.Handler, or a function of a CloudEvent or of a " +
	"request: func([context.Context,] cloudevents.Event or *http.Request) ([result,] [error])"

// handler answers one request; its error is the function's, or a refusal.
type handler func(http.ResponseWriter, *http.Request) error

var (
	contextType = reflect.TypeFor[context.Context]()
	eventType   = reflect.TypeFor[event.Event]()
	requestType = reflect.TypeFor[*http.Request]()
	errorType   = reflect.TypeFor[error]()
)

// adapt tells once, at start, how the function is called. A function of requests gets every request as it is; a
// function of events gets CloudEvents only. What those of one value return is the answer: nothing is 204, a CloudEvent
// is sent as one (a Broker takes it as the reply), an http.Response is what it says, text and bytes go as they are,
// everything else as JSON.
func adapt(function any) (handler, error) {
	switch served := function.(type) {
	case func(http.ResponseWriter, *http.Request):
		return requests(http.HandlerFunc(served)), nil
	case http.Handler:
		return requests(served), nil
	}
	shape := reflect.TypeOf(function)
	if !takesOne(shape) || !returnsAnAnswer(shape) {
		return nil, fmt.Errorf("the handler is %v; %s", shape, wanted)
	}
	return answering(reflect.ValueOf(function), shape), nil
}

func requests(served http.Handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		served.ServeHTTP(w, r)
		return nil
	}
}

func takesOne(shape reflect.Type) bool {
	if shape == nil || shape.Kind() != reflect.Func || shape.NumIn() == 0 || shape.NumIn() > 2 {
		return false
	}
	one := []reflect.Type{eventType, reflect.PointerTo(eventType), requestType}
	return slices.Contains(one, shape.In(shape.NumIn()-1)) && (shape.NumIn() == 1 || shape.In(0) == contextType)
}

func returnsAnAnswer(shape reflect.Type) bool {
	return shape.NumOut() <= 1 || (shape.NumOut() == 2 && isError(shape.Out(1)) && !isError(shape.Out(0)))
}

// isError knows cloudevents.Result, too, which is an error by another name.
func isError(returned reflect.Type) bool {
	return returned.Kind() == reflect.Interface && returned.Implements(errorType)
}

func answering(function reflect.Value, shape reflect.Type) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		given, err := arguments(shape, r)
		if err != nil {
			return err
		}
		result, err := resultOf(function.Call(given))
		if status := statusOf(err); status != 0 {
			w.WriteHeader(status)
			return nil
		}
		if failed(err) {
			return err
		}
		return send(w, result)
	}
}

func arguments(shape reflect.Type, r *http.Request) ([]reflect.Value, error) {
	last, given := shape.In(shape.NumIn()-1), reflect.ValueOf(r)
	if last != requestType {
		received, err := eventOf(r)
		if err != nil {
			return nil, err
		}
		traced(r.Context(), received)
		given = reflect.ValueOf(received)
	}
	if last == eventType {
		given = given.Elem()
	}
	if shape.NumIn() == 1 {
		return []reflect.Value{given}, nil
	}
	return []reflect.Value{reflect.ValueOf(r.Context()), given}, nil
}

func resultOf(returned []reflect.Value) (any, error) {
	if len(returned) == 0 {
		return nil, nil
	}
	last, count := returned[len(returned)-1], len(returned)
	if !isError(last.Type()) {
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

// failed leaves out the SDK's receipts of success (cloudevents.ResultACK), which are errors to Go. An HTTP result that
// is none of the statuses above is a failure, whatever it wraps.
func failed(err error) bool {
	var asked *cehttp.Result
	return errors.As(err, &asked) || !protocol.IsACK(err)
}
