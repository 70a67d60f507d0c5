"""A deferrable operator for Airflow 3.3 that exports the orders of a data interval to a file."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from airflow.sdk import BaseHook, BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from airflow_trigger import JobTrigger, make_session

WINDOW = "ge(created_at,{{ data_interval_start | ds }}):lt(created_at,{{ data_interval_end | ds }})"
JOB_ID = "job_id"  # key in the task state store


class ExportOrdersOperator(BaseOperator):
    """Export orders. A worker creates the job, and a worker saves its file.

    In between, the triggerer waits. If no order matches the filter, the task is skipped.

    Args:
        destination: path of the file to write, on a disk that all workers share.
        filter: orders to export. Default: those created on the days of the data interval, its first
            day included and its last excluded.
        conn_id: connection with the client id as login, the client secret as password, and the base
            URL as host.
        timeout: longest wait.
    """

    template_fields = ("filter", "destination")

    def __init__(
        self,
        *,
        destination: str,
        filter: str = WINDOW,  # noqa: A002 (the service's name)
        conn_id: str = "moltin_default",
        timeout: timedelta = timedelta(hours=6),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.filter = filter
        self.conn_id = conn_id
        self.timeout = timeout

    def execute(self, context: Context) -> NoReturn:
        """Create the job, unless an earlier try has done so, and defer."""
        state = context["task_state_store"]  # all tries of the task share it
        job_id = state.get(JOB_ID)
        if job_id is None:
            job_id = asyncio.run(self._create_job())
            state.set(JOB_ID, job_id)  # before the first poll
        self.defer(
            trigger=JobTrigger(job_id, self.conn_id),
            method_name="execute_complete",
            timeout=self.timeout,
        )

    def execute_complete(self, context: Context, event: dict[str, str]) -> str:
        """Save the file, or skip or fail the task."""
        outcome = event["outcome"]
        if outcome == "success":
            asyncio.run(self._download(event["job_id"]))
        if outcome != "unknown":  # the job has ended: another try creates a new one
            context["task_state_store"].delete(JOB_ID)
        if outcome == "empty":
            raise AirflowSkipException(event["message"])
        if outcome != "success":
            raise AirflowException(event["message"])
        return self.destination

    async def _create_job(self) -> str:
        async with make_session(BaseHook.get_connection(self.conn_id)) as session:
            return (await session.create_job(filter=self.filter)).id

    async def _download(self, job_id: str) -> None:
        Path(self.destination).parent.mkdir(parents=True, exist_ok=True)
        async with make_session(BaseHook.get_connection(self.conn_id)) as session:
            await session.download(job_id, self.destination)
