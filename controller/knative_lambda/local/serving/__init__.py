"""Services to processes: what Knative Serving does in a cluster."""
