// Package topology pins the RabbitMQ messaging topology operator that the test bed runs as a process.
package topology
