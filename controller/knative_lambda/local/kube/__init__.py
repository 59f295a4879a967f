"""The objects in memory for clients: what a kube-apiserver does in a cluster."""
