//go:build tools

package topology

import (
	_ "github.com/rabbitmq/messaging-topology-operator/cmd"
)
