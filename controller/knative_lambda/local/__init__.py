"""No cluster, no Docker: the controllers run over a memory cluster, and functions are processes of this host."""
