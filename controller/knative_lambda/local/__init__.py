"""No cluster, no Docker: the controllers of a cluster over a memory cluster, with functions as processes of this host."""
