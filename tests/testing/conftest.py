"""Turn on the fixtures of the package."""

from moltin_jobs.testing.plugin import moltin_environment, moltin_session, moltin_simulator

__all__ = ["moltin_environment", "moltin_session", "moltin_simulator"]
