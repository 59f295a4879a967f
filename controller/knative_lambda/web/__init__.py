"""The operations port: whether this process lives and is ready, and its metrics; other routes hang on beside them."""
