"""The Kubernetes API as a port (`base`), a real API server behind it (`kube`), and a `memory` twin for local mode."""
