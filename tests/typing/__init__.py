"""What users rely on of the types: checked by mypy, never run."""
