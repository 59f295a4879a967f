//go:build tools

package knative

import (
	_ "knative.dev/caching/config"
	_ "knative.dev/eventing/cmd/webhook"
	_ "knative.dev/networking/config"
	_ "knative.dev/serving/cmd/autoscaler"
	_ "knative.dev/serving/cmd/controller"
	_ "knative.dev/serving/cmd/webhook"
)
