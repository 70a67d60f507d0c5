"""Asyncio client for the jobs of Elastic Path Commerce (formerly Moltin)."""

__version__ = "0.1.0"

from . import kinds
from ._http.downloads import ProgressCallback
from ._http.job_file import JobFile
from ._polling.outcomes import JobOutcomes
from ._polling.watch import JobWatch
from .auth import Auth, ClientCredentials
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
    NoResultsError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    SessionClosedError,
    TransportError,
)
from .kinds import JobKind
from .models import Job, JobProblem, JobState, QueuedJob, SessionStats
from .session import JobId, JobsSession, SessionOptions, wait_for_job
from .settings import PausableRateLimiter, Polling, RateLimiter, Retry

__all__ = [
    "APIError",
    "Auth",
    "AuthenticationError",
    "ClientCredentials",
    "ConfigurationError",
    "InvalidJobIdError",
    "InvalidResponseError",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "JobFile",
    "JobId",
    "JobKind",
    "JobNotFoundError",
    "JobOutcomes",
    "JobProblem",
    "JobState",
    "JobTimeoutError",
    "JobWatch",
    "JobsSession",
    "MoltinJobsError",
    "NoResultsError",
    "PausableRateLimiter",
    "PermissionDeniedError",
    "Polling",
    "ProgressCallback",
    "QueuedJob",
    "RateLimitError",
    "RateLimiter",
    "Retry",
    "ServerError",
    "SessionClosedError",
    "SessionOptions",
    "SessionStats",
    "TransportError",
    "kinds",
    "wait_for_job",
]
