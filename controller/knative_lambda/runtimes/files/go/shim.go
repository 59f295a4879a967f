// Package shim hands each request to the user's function; it is compiled into the function's program, on top of
// functions-framework.
//
// What a handler may be says handlers.go. Health is answered here and never reaches it. What goes wrong in it is a 500
// with an id and nothing else; error and stack are in the log, under that id.
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
	"sync/atomic"
	"syscall"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
)

const target = "dispatch"

// server is functions-framework's, which keeps it to itself; every request brings it along. None before the first.
var server atomic.Pointer[http.Server]

// Serve answers at $HOST:$PORT until the process is told to end. Called by the main function that compile writes.
func Serve(function any) {
	handle, err := adapt(function)
	if err != nil {
		end("the function cannot be served: %v", err)
	}
	functions.HTTP(target, func(w http.ResponseWriter, r *http.Request) { dispatch(handle, w, r) })
	os.Setenv("FUNCTION_TARGET", target)
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
		server.Store(running)
	}
	if r.Method == http.MethodGet && (r.URL.Path == "/health/liveness" || r.URL.Path == "/health/readiness") {
		fmt.Fprint(w, "ok")
		return
	}
	answer := &response{ResponseWriter: w}
	defer func() {
		if cause := recover(); cause != nil {
			fail(answer, fmt.Sprintf("panic: %v\n%s", cause, debug.Stack()))
		}
	}()
	if err := handle(answer, r); err != nil {
		fail(answer, fmt.Sprintf("%v", err))
	}
}

// fail answers with an id that only the log explains; an answer that has begun is cut off, or it would look whole.
func fail(answer *response, reason string) {
	id := opaque()
	fmt.Fprintf(os.Stderr, "error %s: %s\n", id, reason)
	if !answer.begun {
		answer.Header().Set("X-Error-Id", id)
		http.Error(answer, "internal error "+id, http.StatusInternalServerError)
		return
	}
	connection, _, err := http.NewResponseController(answer.ResponseWriter).Hijack()
	if err != nil {
		fmt.Fprintf(os.Stderr, "error %s: the answer could not be cut off: %v\n", id, err)
		return
	}
	connection.Close()
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
	if running := server.Load(); running != nil {
		if err := running.Shutdown(context.Background()); err != nil {
			end("the server did not end in order: %v", err)
		}
	}
	os.Exit(0)
}
