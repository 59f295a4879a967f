// Package testbed holds the Go programs of the project's test bed; see ../assets.py, which builds them.
package testbed
