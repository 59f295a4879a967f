"""Settings to object graph: the only room that names every adapter."""
