// Package shim hands each request to the user's function; it is compiled into the function's program, on top of
// functions-framework.
//
// What a handler may be says handlers.go, which CloudEvents it gets events.go, and what becomes of its result answers.go.
// Health is answered here and never reaches it. What goes wrong in it is a 500 with an id and nothing else; error and
// stack are in the log, under that id.
package shim

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
	"github.com/cloudevents/sdk-go/v2/event"
)

const (
	frameworkTarget = "dispatch"
	ownFrames       = "knative-lambda.invalid/shim."
)

// frameworkServer is functions-framework's, which keeps it to itself; every request brings it along. None before the
// first.
var frameworkServer atomic.Pointer[http.Server]

// serviceName is the Knative Service's, which Serve hides from the framework.
var serviceName = os.Getenv("K_SERVICE")

// Serve answers at $HOST:$PORT until the process is told to end. Called by the main function that compile writes.
func Serve(function any) {
	handle, err := adapt(function)
	if err != nil {
		end("the function cannot be served: %v", err)
	}
	functions.HTTP(frameworkTarget, func(w http.ResponseWriter, r *http.Request) { dispatch(handle, w, r) })
	os.Setenv("FUNCTION_TARGET", frameworkTarget)
	// The framework takes it for Google's own platform and prints two empty lines after every request.
	os.Unsetenv("K_SERVICE")
	go stopWhenTold()
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	err = funcframework.StartHostPort(os.Getenv("HOST"), port)
	if errors.Is(err, http.ErrServerClosed) {
		select {} // the last answers are under way; stopWhenTold ends the process
	}
	end("the server ended: %v", err)
}

func end(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

// dispatch is called by functions-framework for every request.
func dispatch(handle handler, w http.ResponseWriter, r *http.Request) {
	if running, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok {
		frameworkServer.Store(running)
	}
	if answered(w, r) {
		return
	}
	id := opaque()
	answer := &response{ResponseWriter: w}
	defer func() {
		if cause := recover(); cause != nil {
			fail(answer, id, fmt.Sprintf("panic: %v\n%s", cause, userStack(string(debug.Stack()))))
		}
	}()
	err := handle(answer, informed(r, id))
	var refused refusal
	switch {
	case errors.As(err, &refused):
		fmt.Fprintf(os.Stderr, "refused: %s\n", refused.words) // a Broker takes it as delivered
		plain(answer, refused.status, refused.words)
	case err != nil:
		fail(answer, id, err.Error())
	}
}

// answered are the paths that never reach a handler, in any language.
func answered(w http.ResponseWriter, r *http.Request) bool {
	switch r.URL.Path {
	case "/health/liveness", "/health/readiness":
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprint(w, "ok")
			return true
		}
	case "/favicon.ico", "/robots.txt":
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	return false
}

// told is a handler's context: by names, for a function cannot import this package to have keys of it.
type told struct {
	context.Context
	values map[string]any
}

func (t told) Value(key any) any {
	if name, ok := key.(string); ok && t.values[name] != nil {
		return t.values[name]
	}
	return t.Context.Value(key)
}

// informed is the request with what the handlers of every language are told.
func informed(r *http.Request, id string) *http.Request {
	values := map[string]any{
		"id": id, "function": serviceName, "revision": os.Getenv("K_REVISION"), "traceparent": r.Header.Get("traceparent"),
		"tracestate": r.Header.Get("tracestate"),
	}
	known := r.WithContext(told{r.Context(), values})
	values["request"] = known
	return known
}

// traced takes the W3C trace context of the event when the request has none.
func traced(ctx context.Context, received *event.Event) {
	values := ctx.(told).values
	for _, name := range []string{"traceparent", "tracestate"} {
		if own, ok := received.Extensions()[name].(string); ok && values[name] == "" {
			values[name] = own
		}
	}
}

// userStack is the function's own part of a stack: a log has little room.
func userStack(stack string) string {
	lines := strings.Split(strings.TrimSpace(stack), "\n")[1:]
	var kept []string
	panicked := false
	for at := 0; at+1 < len(lines); at += 2 {
		switch frame := lines[at]; {
		case strings.HasPrefix(frame, "panic("):
			panicked = true
		case !panicked || strings.HasPrefix(frame, "runtime."):
		case strings.HasPrefix(frame, "reflect.Value.") || strings.HasPrefix(frame, ownFrames):
			return strings.Join(kept, "\n")
		default:
			kept = append(kept, frame, lines[at+1])
		}
	}
	return strings.Join(kept, "\n")
}

// fail answers with an id that only the log explains; an answer that has begun is cut off, or it would look whole.
func fail(answer *response, id, reason string) {
	fmt.Fprintf(os.Stderr, "error %s: %s\n", id, reason)
	if !answer.begun {
		clear(answer.Header())
		answer.Header().Set("X-Error-Id", id)
		plain(answer, http.StatusInternalServerError, "internal error "+id)
		return
	}
	connection, _, err := http.NewResponseController(answer.ResponseWriter).Hijack()
	if err != nil {
		fmt.Fprintf(os.Stderr, "error %s: the answer could not be cut off: %v\n", id, err)
		return
	}
	connection.Close()
}

func plain(w http.ResponseWriter, status int, words string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, words)
}

func opaque() string {
	random := make([]byte, 8)
	rand.Read(random)
	return hex.EncodeToString(random)
}

// response knows whether something of it is on its way.
type response struct {
	http.ResponseWriter
	begun bool
}

func (r *response) WriteHeader(status int) {
	r.begun = r.begun || status >= http.StatusOK
	r.ResponseWriter.WriteHeader(status)
}

func (r *response) Write(content []byte) (int, error) {
	r.begun = true
	return r.ResponseWriter.Write(content)
}

// Flush is for handlers that stream: they look for it on the writer itself.
func (r *response) Flush() {
	r.begun = true
	http.NewResponseController(r.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// stopWhenTold ends the process after its last answer, at a second signal at once. How long that may take is up to
// whoever sends the signal: Kubernetes and local mode kill after their grace period.
func stopWhenTold() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	go func() {
		<-signals
		os.Exit(1)
	}()
	if running := frameworkServer.Load(); running != nil {
		if err := running.Shutdown(context.Background()); err != nil {
			end("the server did not end in order: %v", err)
		}
	}
	os.Exit(0)
}
