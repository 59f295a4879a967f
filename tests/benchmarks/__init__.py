"""Measurements: ratios taken side by side in one run, printed with the machine. Run by `make bench`; never a test."""
