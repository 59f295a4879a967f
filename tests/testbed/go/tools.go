//go:build tools

// Package testbed pins, through go.mod and go.sum, the modules whose CRD files the test bed installs.
// Nothing of them but Knative Serving's validation (cmd/ksvccheck) is compiled; `go mod download -json`
// tells where their files are.
package testbed

import (
	_ "github.com/rabbitmq/cluster-operator/v2/api/v1beta1"
	_ "github.com/rabbitmq/messaging-topology-operator/api/v1beta1"
	_ "knative.dev/eventing/pkg/apis/eventing/v1"
	_ "knative.dev/serving/pkg/apis/serving/v1"
)
