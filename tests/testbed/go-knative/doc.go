// Package knative pins Knative's own programs, which the test bed runs as processes.
package knative
