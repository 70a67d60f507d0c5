"""An asyncio client for the Jobs of Elastic Path Commerce (once Moltin)."""

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
from .pacing import Limiter
from .schedule import Polling, Retry
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
