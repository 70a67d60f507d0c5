"""A simulated Jobs API on 127.0.0.1, for tests and demonstrations.

It imports neither the client nor pytest. All of its times are on the event loop's clock.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Self, TypeVar

import attrs
from aiohttp import web

from .api import NOT_OPEN, JobsApi
from .arguments import AnyFile, read_details, read_files, read_problems
from .faults import AnyFault, Fault
from .gateway import RecordedRequest
from .jobs import AnyProblem, SimulatedJob, loop_time
from .kinds import ORDER, RELEASE, find_kind
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
            It applies to order jobs.
        not_found: body of a 404 for an order job: ``"bare"`` for an error, ``"list"`` for a list of
            errors.
        rate_limit: number of requests in any one second, or ``None``. The service documents
            25 for a development store.
        token_lifetime: lifetime of issued tokens, in seconds. The service documents an hour.
        latency: time before each response, in seconds.
        chaos: share of requests for jobs that get a random fault, from 0 to 1.
        seed: seed of random faults, ids and durations.
        creation_seconds: run time, in seconds, of jobs that a request creates. Default: random, 1
            to 60.
        old_pxm_timestamps: whether PXM jobs have times like ``2023-11-27 12:32:50.036 +0000 UTC``,
            as they once had.
    """

    port: int = 0
    _thread: threading.Thread | None = attrs.field(default=None, init=False)

    async def __aenter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("Simulator: it is already open. Create another one.")
        async with contextlib.AsyncExitStack() as stack:
            self._url = await serve(stack, self._make_application(), self.port)
            files_host = await serve(stack, self._files.make_application(), 0)
            self._files.url = f"{files_host}/files"
            self._epoch = time.time() - loop_time()
            self._loop = asyncio.get_running_loop()
            self._thread = threading.current_thread()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._thread = None
        await self._stack.aclose()

    # Type checkers report `with Simulator()` themselves.
    if not TYPE_CHECKING:  # pragma: no branch

        def __enter__(self) -> NoReturn:
            raise TypeError(
                "Simulator: it needs an event loop. Use 'async with Simulator()' in async code, "
                "and 'with Simulator.in_thread()' in synchronous code."
            )

        def __exit__(self, *_: object) -> None:
            """Python looks for it before it calls `__enter__`."""

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
        kind: str = "order",
        duration: float | None = None,
        error: str | None = None,
        job_type: str | None = None,
        file: AnyFile | None = None,
        problems: Sequence[AnyProblem] = (),
        details: Mapping[str, Any] | None = None,
    ) -> str:
        """Create a job and return its id.

        Args:
            job_id: id of the job. The default is a new UUID.
            statuses: status in each response that shows the job. The last one is repeated.
            kind: ``"order"``, ``"pxm"``, ``"release:CATALOG_ID"``, ``"subscription"``,
                ``"subscription-import"`` or ``"inventory-import"``.
            duration: seconds that the job runs, once the jobs of its kind before it have ended.
                ``math.inf`` means for ever. Not with ``statuses``. Default: random, 1 to 60.
            error: reason why the job fails. Without ``statuses`` it fails at its end. The reason is
                the ``error`` of an order job, and the first problem of a PXM job or an import.
                Other kinds do not give it.
            job_type: type of the job, if its kind has types. Default: ``"order_export"``,
                ``"product-import"`` (PXM) or ``"billing-run"`` (subscription).
            file: exported file. The default is a CSV of 200 orders for an order job, some JSON for
                a release. A PXM job takes a list of files too; its default is a CSV if its type
                is ``"product-export"``, and no file for other types.
            problems: problems of a PXM job or an import, once it has ended: a message, or a tuple
                of a message, a field and a line for an import. Without ``statuses`` a job with
                problems fails at its end.
            details: further fields of a document by name, such as ``{"report": {...}}``. Each
                replaces the default of the kind.

        Raises:
            ValueError: an argument is not one that the kind has, or there is already a job with
                this id.
        """
        if not isinstance(job_id, str | None):
            raise TypeError(f"job_id must be a str, not {job_id!r}. The statuses come after it.")
        row = find_kind(kind)
        if job_type is not None and row.job_type is None:
            raise ValueError(f"job_type: a job of the kind {row.display_name!r} has no type")
        job = SimulatedJob(
            statuses,
            duration,
            error,
            files=read_files(row, file),
            id=job_id,
            kind_name=kind,
            job_type=row.job_type if job_type is None else job_type,
            problems=read_problems(row, problems),
            details=read_details(row, details),
        )
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
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Script the next job that a request creates, with the arguments of `add_job`.

        The request creates an order job or a release. Only a release has ``details``. Several calls
        script as many jobs, in the same order.
        """
        files = read_files(ORDER, file)
        read = read_details(RELEASE, details)
        job = SimulatedJob(statuses, duration, error, files, details=read)
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
            path: affect only requests with this path, such as ``"/v2/jobs"`` for lists and
                creations of order jobs. It has no query.
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
        if self._thread is None:
            raise RuntimeError(NOT_OPEN)
        # In a forked process, the loop says that it is running, but its thread is not there.
        if not self._loop.is_running() or not self._thread.is_alive():
            raise RuntimeError(
                "Simulator: the event loop that opened it is not running. Call it from code on "
                "that loop, or use Simulator.in_thread()."
            )
        if self._thread is threading.current_thread():
            return function(*args, **kwargs)

        async def call() -> T:
            return function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()


async def serve(stack: contextlib.AsyncExitStack, application: web.Application, port: int) -> str:
    """Serve an application until the stack ends, and return its address."""
    # Without the cancellation of handlers, a fault that hangs would outlive its client.
    runner = web.AppRunner(
        application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"
