"""An asyncio client for the Jobs of Elastic Path Commerce (once Moltin)."""

from ._http.rate_limit import Limiter
from ._polling.intervals import Polling, Retry
from .auth import ClientCredentials
from .errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    InvalidJobIdError,
    InvalidResponseError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobTimeoutError,
    MoltinJobsError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
)
from .models import Job, JobState
from .session import JobsSession, wait_for_job

__all__ = [
    "APIError",
    "AuthenticationError",
    "ClientCredentials",
    "ConfigurationError",
    "InvalidJobIdError",
    "InvalidResponseError",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "JobNotFoundError",
    "JobState",
    "JobTimeoutError",
    "JobsSession",
    "Limiter",
    "MoltinJobsError",
    "PermissionDeniedError",
    "Polling",
    "RateLimitError",
    "Retry",
    "ServerError",
    "TransportError",
    "wait_for_job",
]
