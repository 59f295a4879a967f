// Package shim hands each request to the user's function; it is compiled into the function's program, on top of
// functions-framework.
//
// What a handler may be says handlers.go. Health is answered here and never reaches it. What goes wrong in it is a 500
// with an id and nothing else; error and stack are in the log, under that id.
package shim

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
)

const target = "dispatch"

// Serve answers at $HOST:$PORT until the process is told to end. Called by the main function that compile writes.
func Serve(function any) {
	handle, err := adapt(function)
	if err != nil {
		end("the function cannot be served: %v", err)
	}
	at := &gate{idle: make(chan struct{})}
	functions.HTTP(target, func(w http.ResponseWriter, r *http.Request) { dispatch(at, handle, w, r) })
	os.Setenv("FUNCTION_TARGET", target)
	// The framework takes it for Google's own platform and prints two empty lines after every request.
	os.Unsetenv("K_SERVICE")
	go stopWhenTold(at)
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	end("the server ended: %v", funcframework.StartHostPort(os.Getenv("HOST"), port))
}

func end(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

// dispatch is called by functions-framework for every request.
func dispatch(at *gate, handle handler, w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && (r.URL.Path == "/health/liveness" || r.URL.Path == "/health/readiness") {
		fmt.Fprint(w, "ok")
		return
	}
	if at.enter() {
		w.Header().Set("Connection", "close")
	}
	defer at.leave()
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

// gate counts the requests that are under way, so that none is lost when the process is told to end.
type gate struct {
	mutex    sync.Mutex
	running  int
	stopping bool
	idle     chan struct{}
}

// enter tells whether the process is about to end.
func (g *gate) enter() bool {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.running++
	return g.stopping
}

func (g *gate) leave() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.running--
	g.tell()
}

func (g *gate) stop() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.stopping = true
	g.tell()
}

func (g *gate) tell() {
	if g.stopping && g.running == 0 {
		select {
		case <-g.idle: // told before
		default:
			close(g.idle)
		}
	}
}

// stopWhenTold ends the process after its last answer, at a second signal at once. How long that may take is up to
// whoever sends the signal: Kubernetes and local mode kill after their grace period.
func stopWhenTold(at *gate) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	at.stop()
	select {
	case <-at.idle:
		os.Exit(0)
	case <-signals:
		os.Exit(1)
	}
}
