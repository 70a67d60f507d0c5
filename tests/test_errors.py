import copy
import datetime
import pickle
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from moltin_jobs import errors
from moltin_jobs.errors import (
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
    describe,
    failure_of,
    single_line,
)
from moltin_jobs.models import Job, QueuedJob

JOB_ID = "974c9db4-38da-4dbf-90c2-33eed5f3e77c"
REQUEST_ID = "635da56d-75a1-43cd-b696-7ab119756b3a"
JOB = Job(id=JOB_ID, status="failed", error="No results matched the supplied filter")
ERROR_OBJECTS: list[dict[str, Any]] = [
    {
        "status": 500,
        "title": "Internal Server Error",
        "detail": "There was an internal server error, you can report with your request id.",
        "request_id": REQUEST_ID,
        "meta": {"missing_ids": ["e7d50bd5-1833-43c0-9848-f9d325b08be8"]},
    }
]

QUEUED = QueuedJob(
    job=JOB,
    position=112,
    expected_end=datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC),
)

TREE = """
MoltinJobsError                         .retryable .job_id
├── ConfigurationError(ValueError)
├── InvalidJobIdError(ValueError)
├── SessionClosedError(RuntimeError)
├── JobFailedError                      .job .error .problems
│   ├── JobCancelledError
│   └── NoResultsError
├── JobTimeoutError(TimeoutError)       .timeout .job .polls .last_error .queued
├── TransportError
├── InvalidResponseError                .status .body
└── APIError                            .status .errors .request_id .retry_after .from_gateway
    ├── AuthenticationError   401
    ├── PermissionDeniedError 403
    ├── JobNotFoundError      404       .job
    ├── RateLimitError        429
    └── ServerError           5xx
"""
ADVICE = {
    APIError: "The service rejects this request: change it before you send it again.",
    AuthenticationError: (
        "Pass a token that has not expired (tokens live one hour), or the client id and secret of "
        "this base_url: the session then refreshes its token itself."
    ),
    PermissionDeniedError: (
        "The token lacks a permission: use ClientCredentials of an application key of this store."
    ),
    JobNotFoundError: ("Check the id and the store. Jobs expire one week after their creation."),
    RateLimitError: (
        "The session cools down by itself. If it happens again, other clients share the store's "
        "limit: lower rate_limit, or ask the service's support for a higher limit."
    ),
    ServerError: ("Try again later. If it happens again, report it to the service's support."),
}


def make_timeout_error(
    job: Job | None = JOB, last_error: MoltinJobsError | None = None, **options: Any
) -> JobTimeoutError:
    return JobTimeoutError(
        JOB_ID, timeout=600.0, job=job, polls=29, last_error=last_error, **options
    )


def make_api_error(cls: type[APIError], status: int) -> APIError:
    return cls(
        status,
        f"job {JOB_ID}",
        errors=ERROR_OBJECTS,
        request_id=REQUEST_ID,
        retry_after=2.5,
        job_id=JOB_ID,
    )


def make_not_found() -> JobNotFoundError:
    error = make_api_error(JobNotFoundError, 404)
    assert isinstance(error, JobNotFoundError)
    error.job = JOB
    return error


# Functions, so that each test makes its own error while it runs.
MAKERS: dict[str, Callable[[], MoltinJobsError]] = {
    "MoltinJobsError": lambda: MoltinJobsError("something"),
    "ConfigurationError": lambda: ConfigurationError("rate_limit must be 1 or more, not 0"),
    "InvalidJobIdError": lambda: InvalidJobIdError(".."),
    "SessionClosedError": SessionClosedError,
    "JobFailedError": lambda: JobFailedError(JOB),
    "JobCancelledError": lambda: JobCancelledError(JOB),
    "NoResultsError": lambda: NoResultsError(JOB),
    "JobTimeoutError": lambda: make_timeout_error(
        last_error=make_api_error(ServerError, 503), queued=QUEUED
    ),
    "TransportError": lambda: TransportError(
        "job a", "reset", "Try again.", retryable=False, job_id="a"
    ),
    "InvalidResponseError": lambda: InvalidResponseError(
        "job a", "the body is empty", status=200, body=b"x" * 300, job_id="a"
    ),
    "APIError": lambda: make_api_error(APIError, 418),
    "AuthenticationError": lambda: make_api_error(AuthenticationError, 401),
    "PermissionDeniedError": lambda: make_api_error(PermissionDeniedError, 403),
    "JobNotFoundError": make_not_found,
    "RateLimitError": lambda: make_api_error(RateLimitError, 429),
    "ServerError": lambda: make_api_error(ServerError, 500),
}
each_error = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def parse_tree(tree: str) -> dict[str, tuple[tuple[str, ...], set[str]]]:
    """Return the bases and the attributes, inherited ones included, of each class of a tree."""
    classes: dict[str, tuple[tuple[str, ...], set[str]]] = {}
    path: list[str] = []
    for line in tree.strip().splitlines():
        match = re.match(r"([│ ├└─]*)(\w+)(?:\((\w+)\))?", line)
        assert match is not None
        indent, name, builtin = match.groups()
        del path[len(indent) // 4 :]
        parent = path[-1] if path else "Exception"
        attributes = set(re.findall(r" \.(\w+)", line))
        inherited = classes[parent][1] if path else set()
        classes[name] = ((parent, builtin) if builtin else (parent,), attributes | inherited)
        path.append(name)
    return classes


class TestTree:
    def test_docstring_of_module_has_tree(self) -> None:
        assert TREE in (errors.__doc__ or "")

    def test_classes_have_bases_of_tree(self) -> None:
        classes = {
            name: tuple(base.__name__ for base in value.__bases__)
            for name, value in vars(errors).items()
            if isinstance(value, type) and issubclass(value, Exception)
        }
        assert classes == {name: bases for name, (bases, _) in parse_tree(TREE).items()}
        assert classes["JobCancelledError"] == ("JobFailedError",)
        assert classes["SessionClosedError"] == ("MoltinJobsError", "RuntimeError")

    def test_makers_of_these_tests_cover_tree(self) -> None:
        assert {name: type(make()).__name__ for name, make in MAKERS.items()} == {
            name: name for name in parse_tree(TREE)
        }

    @pytest.mark.parametrize("name", MAKERS)
    def test_error_has_attributes_of_tree(self, name: str) -> None:
        _, attributes = parse_tree(TREE)[name]
        error = MAKERS[name]()
        assert {attribute for attribute in attributes if hasattr(error, attribute)} == attributes
        assert attributes >= {"retryable", "job_id"}

    @each_error
    def test_error_is_no_other_builtin_than_tree_has(
        self, make: Callable[[], MoltinJobsError]
    ) -> None:
        error = make()
        bases, _ = parse_tree(TREE)[type(error).__name__]
        for builtin in (ValueError, RuntimeError, TimeoutError):
            assert isinstance(error, builtin) is (builtin.__name__ in bases)


class TestRetryable:
    @pytest.mark.parametrize(
        ("error", "retryable"),
        [
            pytest.param(MoltinJobsError("x"), False, id="base"),
            pytest.param(ConfigurationError("x"), False, id="configuration"),
            pytest.param(InvalidJobIdError("x!"), False, id="job-id"),
            pytest.param(SessionClosedError(), False, id="closed"),
            pytest.param(JobFailedError(JOB), False, id="failed"),
            pytest.param(JobCancelledError(JOB), False, id="cancelled"),
            pytest.param(NoResultsError(JOB), False, id="no-results"),
            pytest.param(make_timeout_error(), True, id="timeout"),
            pytest.param(TransportError("a", "b", "c"), True, id="transport"),
            pytest.param(TransportError("a", "b", "c", retryable=False), False, id="certificate"),
            pytest.param(
                InvalidResponseError("a", "b", status=200, body=b""), True, id="invalid-response"
            ),
            pytest.param(JobNotFoundError(404, "a"), False, id="not-found"),
        ],
    )
    def test_retryable_of_class(self, error: MoltinJobsError, *, retryable: bool) -> None:
        assert error.retryable is retryable

    @pytest.mark.parametrize("status", [408, 421, 425, 429, 500, 501, 502, 503, 504, 598, 599])
    def test_retryable_of_status_that_may_change_is_true(self, status: int) -> None:
        assert APIError(status, "a").retryable is True

    @pytest.mark.parametrize(
        "status",
        [100, 199, 300, 400, 401, 403, 404, 407, 409, 418, 420, 422, 424, 426, 428, 430, 499, 600],
    )
    def test_retryable_of_any_other_status_is_false(self, status: int) -> None:
        assert APIError(status, "a").retryable is False


class TestJobId:
    @pytest.mark.parametrize(
        ("name", "job_id"),
        [
            ("MoltinJobsError", None),
            ("ConfigurationError", None),
            ("InvalidJobIdError", None),
            ("SessionClosedError", None),
            ("JobFailedError", JOB_ID),
            ("JobCancelledError", JOB_ID),
            ("NoResultsError", JOB_ID),
            ("JobTimeoutError", JOB_ID),
            ("TransportError", "a"),
            ("InvalidResponseError", "a"),
            ("APIError", JOB_ID),
            ("AuthenticationError", JOB_ID),
            ("PermissionDeniedError", JOB_ID),
            ("JobNotFoundError", JOB_ID),
            ("RateLimitError", JOB_ID),
            ("ServerError", JOB_ID),
        ],
    )
    def test_job_id_of_error_is_that_of_its_job(self, name: str, job_id: str | None) -> None:
        assert MAKERS[name]().job_id == job_id

    @pytest.mark.parametrize(
        "error",
        [
            TransportError("a", "b", "c"),
            InvalidResponseError("a", "b", status=200),
            APIError(500, "a"),
            JobTimeoutError(None, timeout=1),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_job_id_of_error_without_job_is_none(self, error: MoltinJobsError) -> None:
        assert error.job_id is None


class TestFailureOf:
    @pytest.mark.parametrize(
        ("status", "error", "cls"),
        [
            ("pending", None, None),
            ("success", "No results matched", None),
            ("cancelling", None, None),
            ("unheard-of", "why", None),
            ("failed", None, JobFailedError),
            ("FAILED", "why", JobFailedError),
            ("failed", "Found no results matched by it", JobFailedError),
            ("failed", "No results matched the supplied filter", NoResultsError),
            ("Failed", "NO RESULTS MATCHED", NoResultsError),
            ("cancelled", None, JobCancelledError),
            ("canceled", "No results matched", JobCancelledError),
        ],
    )
    def test_failure_of_job_depends_on_state_and_reason(
        self, status: str, error: str | None, cls: type[JobFailedError] | None
    ) -> None:
        job = Job(id="a", status=status, error=error)
        failure = failure_of(job)
        assert type(failure) is (cls or type(None))
        if failure is not None:
            assert failure.job is job
            assert failure.error == error

    @pytest.mark.parametrize(
        ("job_type", "cls"),
        [(None, NoResultsError), ("order_export", NoResultsError), ("other", JobFailedError)],
    )
    def test_no_results_are_those_of_an_order_export(
        self, job_type: str | None, cls: type[JobFailedError]
    ) -> None:
        job = Job(id="a", status="failed", job_type=job_type, error="No results matched")
        assert type(failure_of(job)) is cls


class TestMessages:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            pytest.param(
                lambda: ConfigurationError("rate_limit: no"), "rate_limit: no", id="as-passed"
            ),
            pytest.param(
                lambda: InvalidJobIdError("../oauth"),
                "'../oauth' is not a valid job id: expected 1 to 128 ASCII letters, digits, '-' or "
                "'_'. Nothing was sent.",
                id="job-id",
            ),
            pytest.param(
                lambda: InvalidJobIdError(None),
                "None is not a valid job id: expected 1 to 128 ASCII letters, digits, '-' or "
                "'_'. Nothing was sent.",
                id="job-id-not-str",
            ),
            pytest.param(
                SessionClosedError, "the JobsSession is closed: create a new one.", id="closed"
            ),
            pytest.param(
                lambda: SessionClosedError("it was closed."), "it was closed.", id="closed-message"
            ),
            pytest.param(
                lambda: JobFailedError(Job(id="a", status="failed", error="Out of memory.")),
                "job a failed: Out of memory. Create a new job to try again.",
                id="failed",
            ),
            pytest.param(
                lambda: JobFailedError(Job(id="a", status="failed")),
                "job a failed: the service gave no reason. Create a new job to try again.",
                id="failed-without-reason",
            ),
            pytest.param(
                lambda: JobFailedError(Job(id="a", status="failed", error=" \n")),
                "job a failed: the service gave no reason. Create a new job to try again.",
                id="failed-with-blank-reason",
            ),
            pytest.param(
                lambda: JobCancelledError(Job(id="a", status="cancelled")),
                "job a was cancelled: the service gave no reason. Create a new job to try again.",
                id="cancelled",
            ),
            pytest.param(
                lambda: JobCancelledError(Job(id="a", status="cancelled", error="by Ann.")),
                "job a was cancelled: by Ann. Create a new job to try again.",
                id="cancelled-with-reason",
            ),
            pytest.param(
                lambda: JobCancelledError(Job(id="a", status="cancelled", error=" ")),
                "job a was cancelled: the service gave no reason. Create a new job to try again.",
                id="cancelled-with-blank-reason",
            ),
            pytest.param(
                lambda: NoResultsError(JOB),
                f"job {JOB_ID} failed: No results matched the supplied filter. "
                "Create a new job with another filter.",
                id="no-results",
            ),
            pytest.param(
                lambda: make_timeout_error(Job(id=JOB_ID, status="started")),
                f"job {JOB_ID} did not end within 600 s (last status 'started', 29 polls). "
                "Wait again, or use a longer timeout.",
                id="timeout",
            ),
            pytest.param(
                lambda: JobTimeoutError(
                    "a",
                    timeout=0.25,
                    polls=3,
                    last_error=TransportError("job a", "reset", "Try again."),
                ),
                "job a did not end within 0.25 s (3 polls without success, last error: job a: "
                "reset. Try again). Wait again, or use a longer timeout.",
                id="timeout-never-seen",
            ),
            pytest.param(
                lambda: make_timeout_error(
                    Job(id=JOB_ID, status="pending"),
                    TransportError("job a", "reset", "Try again."),
                    queued=QUEUED,
                ),
                f"job {JOB_ID} did not end within 600 s (last status 'pending', 29 polls, 112th in "
                "the queue, expected to end at 2026-01-02 03:04:05 UTC, "
                "last error: job a: reset. Try again). Wait again, or use a longer timeout.",
                id="timeout-in-queue",
            ),
            pytest.param(
                lambda: JobTimeoutError("a", timeout=1, polls=1),
                "job a did not end within 1 s (1 poll). Wait again, or use a longer timeout.",
                id="timeout-one-poll",
            ),
            pytest.param(
                lambda: JobTimeoutError("a", timeout=1, outcome="was not downloaded"),
                "job a was not downloaded within 1 s. Wait again, or use a longer timeout.",
                id="timeout-no-poll",
            ),
            pytest.param(
                lambda: make_timeout_error(outcome="was not saved", advice="Download it."),
                f"job {JOB_ID} was not saved within 600 s (last status 'failed', 29 polls). "
                "Download it.",
                id="timeout-own-advice",
            ),
            pytest.param(
                lambda: JobTimeoutError(None, timeout=1, outcome="was not confirmed"),
                "the job of this export was not confirmed within 1 s. "
                "Wait again, or use a longer timeout.",
                id="timeout-without-job",
            ),
            pytest.param(
                lambda: TransportError("job a at api.moltin.com", "connection reset", "Try again."),
                "job a at api.moltin.com: connection reset. Try again.",
                id="transport",
            ),
            pytest.param(
                lambda: InvalidResponseError(
                    "job a", "the body is empty", status=203, body=b"secret"
                ),
                "job a: invalid response with status 203: the body is empty. Try again later. "
                "If it happens again, check that base_url and all proxies lead to the service.",
                id="invalid-response",
            ),
            pytest.param(
                lambda: make_api_error(ServerError, 500),
                f"job {JOB_ID}: the service responded with status 500: Internal Server Error: "
                "There was an internal server error, you can report with your request id "
                f"(request id {REQUEST_ID}). {ADVICE[ServerError]}",
                id="api-all-details",
            ),
            pytest.param(
                lambda: APIError(400, "job a", errors=[{"title": "Bad"}, {"title": "Other"}]),
                f"job a: the service responded with status 400: Bad. {ADVICE[APIError]}",
                id="api-first-title",
            ),
            pytest.param(
                lambda: APIError(400, "job a", errors=({"detail": "Field x"},), request_id="r"),
                "job a: the service responded with status 400: Field x (request id r). "
                f"{ADVICE[APIError]}",
                id="api-detail-only",
            ),
            pytest.param(
                lambda: APIError(400, "job a", errors=[{"title": "", "detail": 7}]),
                f"job a: the service responded with status 400. {ADVICE[APIError]}",
                id="api-no-text",
            ),
            pytest.param(
                lambda: APIError(400, "job a", errors=[{"title": " ", "detail": "Sorry."}]),
                f"job a: the service responded with status 400: Sorry. {ADVICE[APIError]}",
                id="api-blank-title",
            ),
            pytest.param(
                lambda: APIError(
                    400, "job a", errors=[{"title": ["x"], "detail": None}], advice="Stop."
                ),
                "job a: the service responded with status 400. Stop.",
                id="api-own-advice",
            ),
            *(
                pytest.param(
                    lambda cls=cls: cls(400, "job a"),
                    f"job a: the service responded with status 400. {advice}",
                    id=cls.__name__,
                )
                for cls, advice in ADVICE.items()
            ),
        ],
    )
    def test_message_has_subject_reason_and_advice(
        self, make: Callable[[], MoltinJobsError], message: str
    ) -> None:
        assert str(make()) == message

    @each_error
    def test_message_is_one_printable_line(self, make: Callable[[], MoltinJobsError]) -> None:
        assert str(make()).isprintable()

    @pytest.mark.parametrize(
        "hostile",
        [
            pytest.param("two\r\nlines\x0band\x1cmore\u2028and\x85more", id="newlines"),
            pytest.param("\x1b[2J\x1b]0;title\x07\x00", id="escape-sequences"),
            pytest.param("\ud800\udfff", id="lone-surrogates"),
            pytest.param("\u202egnp.exe\u200b", id="bidirectional"),
            pytest.param("x" * 10_000, id="long"),
            pytest.param("\U0010ffff" * 10_000, id="long-and-unprintable"),
            pytest.param("\n" * 10_000, id="many-newlines"),
        ],
    )
    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(InvalidJobIdError, id="job-id"),
            pytest.param(lambda text: InvalidJobIdError([text]), id="job-id-in-list"),
            *(
                pytest.param(
                    lambda text, cls=cls: cls(Job(id="a", status="failed", error=text)),
                    id=cls.__name__,
                )
                for cls in (JobFailedError, JobCancelledError, NoResultsError)
            ),
            pytest.param(lambda text: make_timeout_error(Job(id="a", status=text)), id="status"),
            pytest.param(
                lambda text: make_timeout_error(
                    last_error=APIError(400, "a", errors=[{"title": text}])
                ),
                id="last-error",
            ),
            pytest.param(
                lambda text: APIError(400, "a", errors=[{"title": text, "detail": text}]),
                id="title-and-detail",
            ),
            pytest.param(lambda text: APIError(400, "a", request_id=text), id="request-id"),
        ],
    )
    def test_message_with_hostile_text_is_one_bounded_printable_line(
        self, make: Callable[[str], MoltinJobsError], hostile: str
    ) -> None:
        message = str(make(hostile))
        assert message.isprintable()
        widest = max(len(c.encode("unicode_escape")) for c in hostile)
        assert len(message) < 2 * 501 * widest + 400

    def test_message_about_long_job_id_has_only_its_beginning(self) -> None:
        assert str(InvalidJobIdError("x" * 99 + "yz")).startswith(f"'{'x' * 99}y' is not")

    def test_address_in_place_of_an_id_is_not_quoted(self) -> None:
        message = str(InvalidJobIdError("https://files.example.com/a.csv?signature=the-secret"))
        assert message.startswith("an address is not a valid job id: expected")
        assert "the-secret" not in message

    @pytest.mark.parametrize("job_id", [uuid.UUID(int=0), b"a", 7, object], ids=repr)
    def test_message_about_invalid_id_of_any_type_has_its_repr(self, job_id: object) -> None:
        assert str(InvalidJobIdError(job_id)).startswith(f"{job_id!r} is not a valid job id: ")


class TestSingleLine:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            pytest.param("", "", id="empty"),
            pytest.param("No results", "No results", id="plain"),
            pytest.param("für «Käse» 😀", "für «Käse» 😀", id="printable"),
            pytest.param("  a \t\r\n b\x0b\x0cc\u2028d  ", "a b c d", id="white-space"),
            pytest.param("\x1b[31mred\x07", r"\x1b[31mred\x07", id="escape-sequences"),
            pytest.param("a\x00b\u202ec\ud800d", r"a\x00b\u202ec\ud800d", id="unprintable"),
            pytest.param("x" * 500, "x" * 500, id="limit"),
            pytest.param("x" * 501, "x" * 500 + "…", id="one-more"),
            pytest.param("x" * 10_000, "x" * 500 + "…", id="long"),
            pytest.param(" " * 500 + "x", "…", id="long-space"),
        ],
    )
    def test_single_line_makes_text_printable_and_bounded(self, text: str, line: str) -> None:
        assert single_line(text) == line


class RaisingRepr:
    def __repr__(self) -> str:
        raise LookupError


class TestDescribe:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            pytest.param("a", "'a'", id="str"),
            pytest.param("x" * 101, repr("x" * 100), id="long-str"),
            pytest.param([1, None], "[1, None]", id="list"),
            pytest.param(["x" * 1_000], f"['{'x' * 498}…", id="long-list"),
            pytest.param(10**5_000, "a int", id="int-beyond-limit-of-digits"),
            pytest.param(RaisingRepr(), "a RaisingRepr", id="repr-raises"),
        ],
    )
    def test_describe_returns_bounded_repr_or_type(self, value: object, text: str) -> None:
        assert describe(value) == text


class TestAttributes:
    @pytest.mark.parametrize("cls", [JobFailedError, JobCancelledError, NoResultsError])
    def test_job_failed_error_has_job_and_reason(self, cls: type[JobFailedError]) -> None:
        error = cls(JOB)
        assert error.job is JOB
        assert error.error == "No results matched the supplied filter"
        assert JobFailedError(Job(id="a", status="failed")).error is None

    @pytest.mark.parametrize(
        ("position", "ordinal"),
        [
            (1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (10, "10th"), (11, "11th"),
            (12, "12th"), (13, "13th"), (20, "20th"), (21, "21st"), (102, "102nd"),
            (111, "111th"), (123, "123rd"),
        ],
    )  # fmt: skip
    def test_job_timeout_error_states_the_position_as_an_ordinal(
        self, position: int, ordinal: str
    ) -> None:
        queued = QueuedJob(job=JOB, position=position)
        error = make_timeout_error(queued=queued)
        assert error.queued is queued
        assert f", {ordinal} in the queue). " in str(error)

    def test_job_timeout_error_has_last_job_and_last_error(self) -> None:
        last_error = TransportError("a", "b", "c")
        error = make_timeout_error(last_error=last_error)
        assert vars(error) == {
            "job_id": JOB_ID,
            "timeout": 600.0,
            "job": JOB,
            "polls": 29,
            "last_error": last_error,
            "queued": None,
        }
        assert error.errno is None
        assert make_timeout_error(job=None).job is None
        assert make_timeout_error().last_error is None

    @pytest.mark.parametrize("size", [0, 199, 200, 201])
    def test_invalid_response_error_has_first_200_bytes_of_body(self, size: int) -> None:
        body = b"x" * size + b"y"
        error = InvalidResponseError("a", "b", status=206, body=body)
        assert error.status == 206
        assert error.body == body[:200]

    def test_api_error_has_details_of_response(self) -> None:
        assert vars(make_api_error(APIError, 409)) == {
            "status": 409,
            "errors": tuple(ERROR_OBJECTS),
            "request_id": REQUEST_ID,
            "retry_after": 2.5,
            "from_gateway": False,
            "job_id": JOB_ID,
            "retryable": False,
        }

    def test_api_error_without_details_has_none(self) -> None:
        assert vars(APIError(503, "a")) == {
            "status": 503,
            "errors": (),
            "request_id": None,
            "retry_after": None,
            "from_gateway": False,
            "job_id": None,
            "retryable": True,
        }

    def test_api_error_keeps_errors_if_passed_list_changes(self) -> None:
        objects: list[dict[str, Any]] = [{"title": "a"}]
        error = APIError(400, "a", errors=objects)
        objects.clear()
        assert error.errors == ({"title": "a"},)

    def test_job_not_found_error_may_have_job(self) -> None:
        assert make_not_found().job is JOB
        assert JobNotFoundError(404, "a").job is None


def state_of(error: MoltinJobsError) -> dict[str, Any]:
    """Return everything about an error, and about the errors in its attributes."""
    return {
        "type": type(error),
        "args": error.args,
        "message": str(error),
        "retryable": error.retryable,
        "job_id": error.job_id,
    } | {
        name: state_of(value) if isinstance(value, MoltinJobsError) else value
        for name, value in vars(error).items()
    }


def pickled(protocol: int) -> Callable[[MoltinJobsError], MoltinJobsError]:
    def copy_by_pickle(error: MoltinJobsError) -> MoltinJobsError:
        found = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 (made on this line)
        assert isinstance(found, MoltinJobsError)
        return found

    return copy_by_pickle


COPIES = [
    *(
        pytest.param(pickled(protocol), id=f"pickle-{protocol}")
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ),
    pytest.param(copy.copy, id="copy"),
    pytest.param(copy.deepcopy, id="deepcopy"),
]


class TestCopies:
    @each_error
    @pytest.mark.parametrize("make_copy", COPIES)
    def test_copy_of_error_has_same_state(
        self,
        make: Callable[[], MoltinJobsError],
        make_copy: Callable[[MoltinJobsError], MoltinJobsError],
    ) -> None:
        error = make()
        error.add_note("in the third batch")
        found = make_copy(error)
        assert found is not error
        assert state_of(found) == state_of(error)
        assert found.__notes__ == ["in the third batch"]

    @pytest.mark.parametrize("make_copy", COPIES)
    def test_copy_of_error_has_attributes_and_notes_of_its_own(
        self, make_copy: Callable[[MoltinJobsError], MoltinJobsError]
    ) -> None:
        error = make_not_found()
        error.add_note("first")
        found = make_copy(error)
        assert isinstance(found, JobNotFoundError)
        found.job = None
        found.add_note("second")
        assert error.job is JOB
        assert error.__notes__ == ["first"]

    def test_deep_copy_of_error_shares_no_error_objects(self) -> None:
        error = make_api_error(ServerError, 500)
        found = copy.deepcopy(error)
        found.errors[0]["title"] = "other"
        assert error.errors[0]["title"] == "Internal Server Error"
