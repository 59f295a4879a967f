"""Languages that functions are written in: base image, Dockerfile and shim of each. No client and no event loop."""
