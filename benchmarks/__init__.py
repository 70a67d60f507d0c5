"""Costs of the client, beside those of alternatives: ``python -m benchmarks --help``."""
