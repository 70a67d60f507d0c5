"""A simulated Jobs API on 127.0.0.1, for tests and demonstrations.

It imports neither the client nor pytest. All of its times are on the event loop's clock.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import ParamSpec, Self, TypeVar

import attrs
from aiohttp import web

from .api import JobsApi, RecordedRequest
from .faults import AnyFault, Fault
from .jobs import SimulatedJob, loop_time
from .thread import open_in_thread

__all__ = ["AnyFault", "Fault", "RecordedRequest", "Simulator"]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Simulator")


@attrs.define(slots=False, eq=False, repr=False)
class Simulator(JobsApi):
    """A simulated Jobs API, open inside ``async with`` or `Simulator.in_thread`.

    Its methods may be called from any thread. Files are served from another port, which refuses
    requests with a token.

    Args:
        port: port of the API. 0 takes a free one.
        token: an access token that never expires.
        client_id: client id for which tokens are issued.
        client_secret: secret of the client id.
        dialect: spelling of the statuses, and shape of the responses: ``"current"`` or ``"older"``.
        not_found: body of a 404: ``"bare"`` for an error, ``"list"`` for a list of errors.
        rate_limit: number of requests in any one second, or ``None``. The service documents
            25 for a development store.
        token_lifetime: lifetime of issued tokens, in seconds. The service documents an hour.
        latency: time before each response, in seconds.
        chaos: share of requests for jobs that get a random fault, from 0 to 1.
        seed: seed of random faults, ids and durations.
        creation_seconds: run time, in seconds, of jobs that a request creates. Default: random, 1
            to 60.
    """

    port: int = 0
    _thread_id: int | None = attrs.field(default=None, init=False)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self.url = await _serve(stack, self._make_application(), self.port)
            files_host = await _serve(stack, self._make_file_application(), 0)
            self.files_url = f"{files_host}/files"
            self._epoch = time.time() - loop_time()
            self._loop = asyncio.get_running_loop()
            self._thread_id = threading.get_ident()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._thread_id = None
        await self._stack.aclose()

    @classmethod
    def in_thread(
        cls: Callable[P, S], *args: P.args, **kwargs: P.kwargs
    ) -> AbstractContextManager[S]:
        """Run a simulator in a thread of its own, for synchronous code and notebooks.

        The arguments are those of `Simulator`::

            with Simulator.in_thread(rate_limit=None) as simulator:
                simulator.add_job("a", duration=2)
        """
        return open_in_thread(cls(*args, **kwargs))

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which programs find this simulator."""
        return {
            "EPCC_API_BASE_URL": self.url,
            "EPCC_CLIENT_ID": self.client_id,
            "EPCC_CLIENT_SECRET": self.client_secret,
        }

    def add_job(
        self,
        job_id: str | None = None,
        statuses: Sequence[str] | None = None,
        *,
        duration: float | None = None,
        error: str | None = None,
        job_type: str = "order_export",
        file: bytes | None = None,
    ) -> str:
        """Create a job and return its id.

        Args:
            job_id: id of the job. The default is a new UUID.
            statuses: status in each response that shows the job. The last one is repeated.
            duration: seconds that the job runs, once the jobs before it have ended.
                ``math.inf`` means for ever. Not with ``statuses``. Default: random, 1 to 60.
            error: reason why the job fails. Without ``statuses`` it fails at its end.
            job_type: type of the job.
            file: exported file. The default is a CSV of 200 orders.
        """
        job = SimulatedJob(statuses, duration, error, file, job_id, job_type)
        return self._call(self._jobs.add, job)

    def remove_job(self, job_id: str) -> None:
        """Remove a job, as the service does a week after the creation. Requests for it get 404."""
        self._call(self._jobs.remove, job_id)

    def script_next_job(
        self,
        statuses: Sequence[str] | None = None,
        *,
        duration: float | None = None,
        error: str | None = None,
        file: bytes | None = None,
    ) -> None:
        """Script the next job that a request creates, with the arguments of `add_job`.

        Several calls script as many jobs, in the same order.
        """
        job = SimulatedJob(statuses, duration, error, file)
        self._call(self._scripted_jobs.append, job)

    def add_faults(
        self,
        *faults: AnyFault,
        job_id: str | None = None,
        path: str | None = None,
        repeat: bool = False,
    ) -> None:
        """Replace the next responses by faults, one fault for each request, in order.

        A request takes a fault only if its token is valid. Token requests only take faults
        with the ``path`` ``"/oauth/access_token"``. Precedence: path, then job, then all
        requests.

        Args:
            *faults: HTTP statuses, names of faults or `Fault` objects, see `AnyFault`.
            job_id: affect only requests for this job.
            path: affect only requests with this path, ``"/v2/jobs"`` for lists and creations.
            repeat: repeat the last fault until `clear_faults` is called.
        """
        self._call(self._faults.add, faults, job_id, path, repeat)

    def clear_faults(self) -> None:
        """Remove the faults that no request has taken yet."""
        self._call(self._faults.clear)

    def revoke_tokens(self) -> None:
        """Make all tokens invalid that were issued so far. The fixed ``token`` stays valid."""
        self._call(self._token_expiry.clear)

    def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the thread of the event loop, where the handlers run."""
        if self._thread_id in (None, threading.get_ident()):
            return function(*args, **kwargs)

        async def call() -> T:
            return function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()


async def _serve(stack: contextlib.AsyncExitStack, application: web.Application, port: int) -> str:
    """Serve an application until the stack ends, and return its address."""
    # Without the cancellation of handlers, a fault that hangs would outlive its client.
    runner = web.AppRunner(
        application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"
