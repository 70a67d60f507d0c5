"""A simulated Jobs API for tests and demonstrations. It works without pytest.

The pytest fixtures are in `moltin_jobs.testing.plugin`.
"""

from .simulator import AnyFault, Fault, RecordedRequest, Simulator

__all__ = ["AnyFault", "Fault", "RecordedRequest", "Simulator"]
