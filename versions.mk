# What `make image`, `make kind-up` and `make deploy` use, pinned here and nowhere else. Tags, not digests: whoever has a
# network may put `@sha256:...` behind an image.
PYTHON_IMAGE := python:3.11.14-slim-bookworm
KIND_NODE_IMAGE := kindest/node:v1.34.0
REGISTRY_IMAGE := registry:2.8.3
KNATIVE_SERVING := knative-v1.22.1
KNATIVE_EVENTING := knative-v1.22.2
KNATIVE_KOURIER := knative-v1.22.0
