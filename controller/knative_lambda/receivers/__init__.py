"""Webhooks of forges: a signed delivery asks for a look at one FunctionRepository, and does nothing else."""
