// Package hello answers with a greeting.
package hello

import (
	"fmt"
	"net/http"
)

// Handler is called for every request.
func Handler(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "Hello from Go")
}
