"""Tests of machinery on the memory cluster, with a clock that stands still."""
