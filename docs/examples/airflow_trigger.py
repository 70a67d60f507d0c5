"""A trigger for Airflow 3 that waits for an export. All triggers of a store share one session."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from airflow.sdk import BaseHook, Connection
from airflow.triggers.base import BaseTrigger, TriggerEvent

from moltin_jobs import (
    ClientCredentials,
    JobFailedError,
    JobNotFoundError,
    JobsSession,
    MoltinJobsError,
    NoResultsError,
)


class JobTrigger(BaseTrigger):
    """Wait for an export in the triggerer, and yield one event with its outcome.

    The arguments are kept in the database of Airflow. A restarted triggerer creates the trigger
    from them, and waits for the same job.
    """

    def __init__(self, job_id: str, conn_id: str) -> None:
        super().__init__()
        self.job_id = job_id
        self.conn_id = conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of the class and its arguments."""
        arguments = {"job_id": self.job_id, "conn_id": self.conn_id}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then yield the event."""
        outcome, message = "success", ""
        try:
            async with shared_session(self.conn_id) as session:
                await session.wait_for_job(self.job_id)
        except NoResultsError as error:
            outcome, message = "empty", str(error)
        except (JobFailedError, JobNotFoundError) as error:
            outcome, message = "failed", str(error)
        except MoltinJobsError as error:  # the job may still be running
            outcome, message = "unknown", str(error)
        yield TriggerEvent({"outcome": outcome, "message": message, "job_id": self.job_id})


def make_session(store: Connection) -> JobsSession:
    """Create a session for a connection: its login is the client id, its host the base URL."""
    auth = ClientCredentials(store.login or "", store.password or "")
    return JobsSession(auth, base_url=store.host or "https://api.moltin.com", poll_by="list")


_sessions: dict[str, tuple[JobsSession, set[object]]] = {}  # by connection, with their users
_lock = asyncio.Lock()


@asynccontextmanager
async def shared_session(conn_id: str) -> AsyncIterator[JobsSession]:
    """Share one session between all users of a connection. The last of them closes it."""
    async with _lock:
        if conn_id not in _sessions:
            store = await BaseHook.aget_connection(conn_id)
            _sessions[conn_id] = make_session(store), set()
        session, users = _sessions[conn_id]
        users.add(user := object())
    try:
        yield session
    finally:
        users.remove(user)
        if not users:
            del _sessions[conn_id]
            await session.close()
