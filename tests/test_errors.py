"""The tree of errors, what each says, and that each survives pickling and copying."""

import copy
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
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
    one_line,
)
from moltin_jobs.models import Job

JOB_ID = "974c9db4-38da-4dbf-90c2-33eed5f3e77c"
REQUEST_ID = "635da56d-75a1-43cd-b696-7ab119756b3a"
JOB = Job(id=JOB_ID, status="failed", error="No results matched the supplied filter")
SERVER_ERRORS: list[dict[str, Any]] = [
    {
        "status": 500,
        "title": "Internal Server Error",
        "detail": "There was an internal server error, you can report with your request id.",
        "request_id": REQUEST_ID,
        "meta": {"missing_ids": ["e7d50bd5-1833-43c0-9848-f9d325b08be8"]},
    }
]

TREE = """
MoltinJobsError                         .temporary
├── ConfigurationError(ValueError)
├── InvalidJobIdError(ValueError)
├── JobFailedError                      .job .error
│   └── JobCancelledError
├── JobTimeoutError(TimeoutError)       .job_id .timeout .job .polls .last_error
├── TransportError
├── InvalidResponseError                .status .body
└── APIError                            .status .errors .request_id .retry_after
    ├── AuthenticationError   401
    ├── PermissionDeniedError 403
    ├── JobNotFoundError      404       .job_id .job
    ├── RateLimitError        429
    └── ServerError           5xx
"""
ADVICE = {
    APIError: "The service refuses this request: it makes no sense to repeat it as it is.",
    AuthenticationError: (
        "Give a token that is not expired (they live one hour), or credentials that are valid "
        "for this base_url: with a client id and secret, tokens are renewed by themselves."
    ),
    PermissionDeniedError: (
        "The token lacks the right: use one from a client_credentials key of this store."
    ),
    RateLimitError: (
        "The session pauses by itself; if it recurs, others use the store's limit too: send less "
        "at once (rate_limit), or ask the vendor for more."
    ),
    ServerError: (
        "Try again later; if it stays so, report the request id to the service's support."
    ),
}


def timeout_error(
    job: Job | None = JOB, last_error: MoltinJobsError | None = None
) -> JobTimeoutError:
    return JobTimeoutError(JOB_ID, timeout=600.0, job=job, polls=29, last_error=last_error)


def full_api_error(kind: type[APIError], status: int) -> APIError:
    return kind(
        status,
        f"job {JOB_ID}",
        errors=SERVER_ERRORS,
        request_id=REQUEST_ID,
        retry_after=2.5,
    )


def not_found() -> JobNotFoundError:
    error = JobNotFoundError(JOB_ID, errors=SERVER_ERRORS, request_id=REQUEST_ID, retry_after=2.5)
    error.job = JOB
    return error


MAKERS: dict[str, Callable[[], MoltinJobsError]] = {
    "MoltinJobsError": lambda: MoltinJobsError("something"),
    "ConfigurationError": lambda: ConfigurationError("rate_limit must be an int from 1, not 0"),
    "InvalidJobIdError": lambda: InvalidJobIdError(".."),
    "JobFailedError": lambda: JobFailedError(JOB),
    "JobCancelledError": lambda: JobCancelledError(JOB),
    "JobTimeoutError": lambda: timeout_error(last_error=full_api_error(ServerError, 503)),
    "TransportError": lambda: TransportError("job a", "reset", "Again.", temporary=False),
    "InvalidResponseError": lambda: InvalidResponseError(
        "job a", "its body is empty", status=200, body=b"x" * 300
    ),
    "APIError": lambda: full_api_error(APIError, 418),
    "AuthenticationError": lambda: full_api_error(AuthenticationError, 401),
    "PermissionDeniedError": lambda: full_api_error(PermissionDeniedError, 403),
    "JobNotFoundError": not_found,
    "RateLimitError": lambda: full_api_error(RateLimitError, 429),
    "ServerError": lambda: full_api_error(ServerError, 500),
}
each_error = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def drawn(tree: str) -> dict[str, tuple[str, ...]]:
    """Class -> its bases, as the drawing has them."""
    found: dict[str, tuple[str, ...]] = {}
    above: list[str] = []
    for line in tree.strip().splitlines():
        match = re.match(r"([│ ├└─]*)(\w+)(?:\((\w+)\))?", line)
        assert match is not None
        prefix, name, second = match.groups()
        depth = len(prefix) // 4
        del above[depth:]
        parent = above[-1] if above else "Exception"
        found[name] = (parent, second) if second else (parent,)
        above.append(name)
    return found


class TestTree:
    def test_the_docstring_draws_it(self) -> None:
        assert TREE in (errors.__doc__ or "")

    def test_the_classes_are_as_drawn(self) -> None:
        classes = {
            name: tuple(base.__name__ for base in thing.__bases__)
            for name, thing in vars(errors).items()
            if isinstance(thing, type) and issubclass(thing, Exception)
        }
        assert classes == drawn(TREE)
        assert classes["JobCancelledError"] == ("JobFailedError",)  # the reading of it works
        assert classes["InvalidJobIdError"] == ("MoltinJobsError", "ValueError")

    def test_each_class_of_it_is_made_here(self) -> None:
        assert list(MAKERS) == list(drawn(TREE))
        assert {name: type(make()).__name__ for name, make in MAKERS.items()} == {
            name: name for name in drawn(TREE)
        }

    def test_each_has_the_attributes_drawn(self) -> None:
        above: list[tuple[int, list[str]]] = []
        for line in TREE.strip().splitlines():
            depth = len(re.match("[│ ├└─]*", line)[0]) // 4  # type: ignore[index]  # may be empty
            del above[depth:]
            name = re.findall(r"\w+Error", line)[0]
            above.append((depth, re.findall(r" \.(\w+)", line)))
            wanted = {attribute for _, attributes in above for attribute in attributes}
            assert {a for a in wanted if hasattr(MAKERS[name](), a)} == wanted
            assert "temporary" in wanted

    @each_error
    def test_none_is_raised_for_a_built_in_kind_but_those_drawn(
        self, make: Callable[[], MoltinJobsError]
    ) -> None:
        error = make()
        name = type(error).__name__
        assert isinstance(error, ValueError) is (
            name in {"ConfigurationError", "InvalidJobIdError"}
        )
        assert isinstance(error, TimeoutError) is (name == "JobTimeoutError")


class TestTemporary:
    @pytest.mark.parametrize(
        ("error", "temporary"),
        [
            pytest.param(MoltinJobsError("x"), False, id="base"),
            pytest.param(ConfigurationError("x"), False, id="configuration"),
            pytest.param(InvalidJobIdError("x!"), False, id="job-id"),
            pytest.param(JobFailedError(JOB), False, id="failed"),
            pytest.param(JobCancelledError(JOB), False, id="cancelled"),
            pytest.param(timeout_error(), True, id="timeout"),
            pytest.param(TransportError("a", "b", "c"), True, id="transport"),
            pytest.param(TransportError("a", "b", "c", temporary=False), False, id="certificate"),
            pytest.param(
                InvalidResponseError("a", "b", status=200, body=b""), True, id="unreadable"
            ),
            pytest.param(JobNotFoundError("a"), False, id="not-found"),
        ],
    )
    def test_of_each_class(self, error: MoltinJobsError, *, temporary: bool) -> None:
        assert error.temporary is temporary

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 598, 599])
    def test_a_status_that_passes(self, status: int) -> None:
        assert APIError(status, "a").temporary is True

    @pytest.mark.parametrize(
        "status", [100, 199, 300, 400, 401, 403, 404, 407, 409, 418, 428, 430, 499, 600, 999]
    )
    def test_a_status_that_stays(self, status: int) -> None:
        assert APIError(status, "a").temporary is False


class TestMessages:
    """Message by message, since they are what a user reads.

    They are made as a test runs, not as it is collected, so that mutants are seen.
    """

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            pytest.param(
                lambda: ConfigurationError("rate_limit: no"), "rate_limit: no", id="as-given"
            ),
            pytest.param(
                lambda: InvalidJobIdError("../oauth"),
                "'../oauth' is not a job id: give a uuid.UUID, or a str of 1 to 128 ASCII "
                "letters, digits, '-' and '_'. Nothing was sent.",
                id="job-id",
            ),
            pytest.param(
                lambda: InvalidJobIdError(None),
                "None is not a job id: give a uuid.UUID, or a str of 1 to 128 ASCII "
                "letters, digits, '-' and '_'. Nothing was sent.",
                id="job-id-not-str",
            ),
            pytest.param(
                lambda: JobFailedError(JOB),
                f"job {JOB_ID} failed: No results matched the supplied filter. "
                "It will not change: create a new job.",
                id="failed",
            ),
            pytest.param(
                lambda: JobFailedError(Job(id="a", status="failed")),
                "job a failed: the service gave no reason. It will not change: create a new job.",
                id="failed-without-reason",
            ),
            pytest.param(
                lambda: JobCancelledError(Job(id="a", status="cancelled")),
                "job a was cancelled. It will not change: create a new job.",
                id="cancelled",
            ),
            pytest.param(
                lambda: JobCancelledError(Job(id="a", status="cancelled", error="by Ann")),
                "job a was cancelled: by Ann. It will not change: create a new job.",
                id="cancelled-with-reason",
            ),
            pytest.param(
                lambda: timeout_error(Job(id=JOB_ID, status="started")),
                f"job {JOB_ID} did not end within 600 s: last seen 'started' in 29 polls. "
                "It may still be running: wait for it again, or with a longer timeout.",
                id="timeout",
            ),
            pytest.param(
                lambda: JobTimeoutError(
                    "a",
                    timeout=0.25,
                    job=None,
                    polls=3,
                    last_error=TransportError("job a", "reset", "Try again."),
                ),
                "job a did not end within 0.25 s: never seen in 3 polls (last trouble: "
                "job a: reset. Try again.). "
                "Wait for it again, or with a longer timeout.",
                id="timeout-never-seen",
            ),
            pytest.param(
                lambda: JobTimeoutError("a", timeout=1, job=None, polls=1, last_error=None),
                "job a did not end within 1 s: never seen in 1 poll. "
                "Wait for it again, or with a longer timeout.",
                id="timeout-one-poll",
            ),
            pytest.param(
                lambda: TransportError("job a at api.moltin.com", "connection reset", "Try again."),
                "job a at api.moltin.com: connection reset. Try again.",
                id="transport",
            ),
            pytest.param(
                lambda: InvalidResponseError(
                    "job a", "its body is empty", status=203, body=b"secret"
                ),
                "job a: the service answered 203, but its body is empty. Try again; if it stays "
                "so, see whether base_url and every proxy on the way lead to the service.",
                id="unreadable",
            ),
            pytest.param(
                lambda: ServerError(502, "job a"),
                f"job a: the service answered 502. {ADVICE[ServerError]}",
                id="api-bare",
            ),
            pytest.param(
                lambda: full_api_error(ServerError, 500),
                f"job {JOB_ID}: the service answered 500: Internal Server Error: There was an "
                "internal server error, you can report with your request id. (request id "
                f"{REQUEST_ID}). {ADVICE[ServerError]}",
                id="api-full",
            ),
            pytest.param(
                lambda: APIError(400, "job a", errors=[{"title": "Bad"}, {"title": "Other"}]),
                f"job a: the service answered 400: Bad. {ADVICE[APIError]}",
                id="api-first-title",
            ),
            pytest.param(
                lambda: APIError(400, "job a", errors=({"detail": "Field x"},), request_id="r"),
                f"job a: the service answered 400: Field x (request id r). {ADVICE[APIError]}",
                id="api-detail-only",
            ),
            pytest.param(
                lambda: APIError(400, "job a", errors=[{"title": "", "detail": 7}]),
                f"job a: the service answered 400. {ADVICE[APIError]}",
                id="api-no-text",
            ),
            pytest.param(
                lambda: APIError(
                    400, "job a", errors=[{"title": ["x"], "detail": None}], advice="Stop."
                ),
                "job a: the service answered 400. Stop.",
                id="api-own-advice",
            ),
            pytest.param(
                lambda: AuthenticationError(401, "job a"),
                f"job a: the service answered 401. {ADVICE[AuthenticationError]}",
                id="authentication",
            ),
            pytest.param(
                lambda: PermissionDeniedError(403, "job a"),
                f"job a: the service answered 403. {ADVICE[PermissionDeniedError]}",
                id="permission",
            ),
            pytest.param(
                lambda: RateLimitError(429, "job a"),
                f"job a: the service answered 429. {ADVICE[RateLimitError]}",
                id="rate-limit",
            ),
            pytest.param(
                lambda: JobNotFoundError(
                    "a", errors=[{"title": "Resource Not Found"}], request_id="r"
                ),
                "job a: the service answered 404: Resource Not Found (request id r). "
                "Check the id and the store; jobs expire a week after they were created.",
                id="not-found",
            ),
        ],
    )
    def test_it_says_what_happened_to_what_and_what_to_do(
        self, make: Callable[[], MoltinJobsError], message: str
    ) -> None:
        assert str(make()) == message

    @each_error
    def test_it_is_one_printable_line(self, make: Callable[[], MoltinJobsError]) -> None:
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
            pytest.param(lambda text: InvalidJobIdError([text]), id="job-id-in-a-list"),
            pytest.param(
                lambda text: JobFailedError(Job(id="a", status="failed", error=text)), id="failed"
            ),
            pytest.param(
                lambda text: JobCancelledError(Job(id="a", status="cancelled", error=text)),
                id="cancelled",
            ),
            pytest.param(lambda text: timeout_error(Job(id="a", status=text)), id="status"),
            pytest.param(
                lambda text: APIError(400, "a", errors=[{"title": text, "detail": text}]),
                id="title-and-detail",
            ),
            pytest.param(lambda text: APIError(400, "a", request_id=text), id="request-id"),
            pytest.param(
                lambda text: JobNotFoundError("a", errors=[{"title": text}], request_id=text),
                id="not-found",
            ),
        ],
    )
    def test_hostile_text_becomes_one_bounded_printable_line(
        self, make: Callable[[str], MoltinJobsError], hostile: str
    ) -> None:
        message = str(make(hostile))
        assert message.isprintable()
        widest = max(len(c.encode("unicode_escape")) for c in hostile)
        assert len(message) < 2 * 501 * widest + 300

    def test_of_a_long_id_only_the_beginning_is_shown(self) -> None:
        assert str(InvalidJobIdError("x" * 99 + "yz")).startswith(f"'{'x' * 99}y' is not")


class TestOneLine:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            pytest.param("", "", id="empty"),
            pytest.param("No results", "No results", id="plain"),
            pytest.param("für «Käse» 😀", "für «Käse» 😀", id="printable-stays"),
            pytest.param("  a \t\r\n b\x0b\x0cc\u2028d  ", "a b c d", id="white-space"),
            pytest.param("\x1b[31mred\x07", r"\x1b[31mred\x07", id="escape-sequences"),
            pytest.param("a\x00b\u202ec\ud800d", r"a\x00b\u202ec\ud800d", id="unprintable"),
            pytest.param("x" * 500, "x" * 500, id="the-limit"),
            pytest.param("x" * 501, "x" * 500 + "…", id="one-more"),
            pytest.param("x" * 10_000, "x" * 500 + "…", id="long"),
            pytest.param(" " * 500 + "x", "…", id="long-space"),
        ],
    )
    def test_it(self, text: str, line: str) -> None:
        assert one_line(text) == line


class TestFacts:
    def test_of_a_failed_job(self) -> None:
        error = JobFailedError(JOB)
        assert error.job is JOB
        assert error.error == "No results matched the supplied filter"
        assert JobFailedError(Job(id="a", status="failed")).error is None

    def test_of_a_cancelled_job(self) -> None:
        error = JobCancelledError(JOB)
        assert error.job is JOB
        assert error.error == "No results matched the supplied filter"

    def test_of_a_timeout(self) -> None:
        trouble = TransportError("a", "b", "c")
        error = timeout_error(last_error=trouble)
        assert vars(error) == {
            "job_id": JOB_ID,
            "timeout": 600.0,
            "job": JOB,
            "polls": 29,
            "last_error": trouble,
        }
        assert error.errno is None
        assert timeout_error(job=None).job is None
        assert timeout_error().last_error is None

    @pytest.mark.parametrize("size", [0, 199, 200, 201])
    def test_of_an_unreadable_answer(self, size: int) -> None:
        body = b"x" * size + b"y"
        error = InvalidResponseError("a", "b", status=206, body=body)
        assert error.status == 206
        assert error.body == body[:200]

    def test_of_an_api_error(self) -> None:
        assert vars(full_api_error(APIError, 409)) == {
            "status": 409,
            "errors": tuple(SERVER_ERRORS),
            "request_id": REQUEST_ID,
            "retry_after": 2.5,
            "temporary": False,
        }

    def test_of_an_api_error_without_any(self) -> None:
        assert vars(APIError(503, "a")) == {
            "status": 503,
            "errors": (),
            "request_id": None,
            "retry_after": None,
            "temporary": True,
        }

    def test_of_a_job_not_found(self) -> None:
        assert vars(not_found()) == {
            "status": 404,
            "errors": tuple(SERVER_ERRORS),
            "request_id": REQUEST_ID,
            "retry_after": 2.5,
            "temporary": False,
            "job_id": JOB_ID,
            "job": JOB,
        }

    def test_of_a_job_not_found_without_any(self) -> None:
        assert vars(JobNotFoundError("a")) == {
            "status": 404,
            "errors": (),
            "request_id": None,
            "retry_after": None,
            "temporary": False,
            "job_id": "a",
            "job": None,
        }

    @pytest.mark.parametrize("given", [uuid.UUID(int=0), b"a", 7, object], ids=repr)
    def test_an_id_of_any_kind_is_shown(self, given: object) -> None:
        assert str(InvalidJobIdError(given)).startswith(f"{given!r} is not a job id: ")


def facts(error: MoltinJobsError) -> dict[str, Any]:
    """All there is to an error, with errors in it taken apart likewise."""
    return {
        "type": type(error),
        "args": error.args,
        "message": str(error),
        "temporary": error.temporary,
    } | {
        name: facts(value) if isinstance(value, MoltinJobsError) else value
        for name, value in vars(error).items()
    }


def by_pickle(protocol: int) -> Callable[[MoltinJobsError], MoltinJobsError]:
    def again(error: MoltinJobsError) -> MoltinJobsError:
        found = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 (made on this line)
        assert isinstance(found, MoltinJobsError)
        return found

    return again


class TestCopies:
    @each_error
    @pytest.mark.parametrize(
        "again",
        [
            *(
                pytest.param(by_pickle(protocol), id=f"pickle-{protocol}")
                for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
            ),
            pytest.param(copy.copy, id="copy"),
            pytest.param(copy.deepcopy, id="deepcopy"),
        ],
    )
    def test_nothing_is_lost(
        self,
        make: Callable[[], MoltinJobsError],
        again: Callable[[MoltinJobsError], MoltinJobsError],
    ) -> None:
        error = make()
        error.add_note("in the third batch")
        found = again(error)
        assert found is not error
        assert facts(found) == facts(error)
        assert found.__notes__ == ["in the third batch"]

    def test_a_copy_has_attributes_of_its_own(self) -> None:
        error = not_found()
        found = copy.copy(error)
        found.job = None
        assert error.job is JOB

    def test_a_deep_copy_shares_nothing_that_can_change(self) -> None:
        error = full_api_error(ServerError, 500)
        found = copy.deepcopy(error)
        found.errors[0]["title"] = "other"
        assert error.errors[0]["title"] == "Internal Server Error"

    def test_the_list_given_may_change_later(self) -> None:
        given: list[dict[str, Any]] = [{"title": "a"}]
        error = APIError(400, "a", errors=given)
        given.clear()
        assert error.errors == ({"title": "a"},)


def test_blank_texts_leave_no_holes_in_messages() -> None:
    assert "the service gave no reason" in str(
        JobFailedError(Job(id="a", status="failed", error=" "))
    )
    error = APIError(400, "job a", errors=[{"title": " ", "detail": "Sorry."}])
    assert str(error).startswith("job a: the service answered 400: Sorry. The service")


def test_a_foreign_repr_that_raises_is_lived_with() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise LookupError

    assert str(InvalidJobIdError(Rude())).startswith("a Rude is not a job id")
