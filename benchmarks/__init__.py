"""What the client costs, beside what people would use instead: ``python -m benchmarks --help``."""
