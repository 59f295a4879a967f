"""Jobs to folders that can be started: what Job controller, kubelet and Kaniko do in a cluster."""
