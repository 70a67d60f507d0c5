"""Warnings of content that the service does not document."""

import logging

import pytest

from moltin_jobs import Job
from moltin_jobs._polling.content_log import ContentLog


def make_job(status: str, job_id: str = "a") -> Job:
    return Job(id=job_id, status=status)


@pytest.fixture
def content_log(caplog: pytest.LogCaptureFixture) -> ContentLog:
    caplog.set_level(logging.DEBUG, "moltin_jobs")
    return ContentLog()


def test_undocumented_status_is_logged_once_for_each_spelling(
    content_log: ContentLog, caplog: pytest.LogCaptureFixture
) -> None:
    for status in ("dreaming", "dreaming", "Dreaming", "dreaming"):
        content_log.log_unknown_status(make_job(status))
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "moltin_jobs.polling",
            "WARNING",
            f"job a: status '{status}' is not documented, and is treated as not terminal",
        )
        for status in ("dreaming", "Dreaming")
    ]
    record = caplog.records[0]
    assert (vars(record)["job_id"], vars(record)["job_status"]) == ("a", "dreaming")


def test_undocumented_status_is_logged_as_one_line(
    content_log: ContentLog, caplog: pytest.LogCaptureFixture
) -> None:
    content_log.log_unknown_status(make_job("\x1b[31m\r\nfatal", "a\r\nb"))
    message = caplog.records[0].getMessage()
    assert message.isprintable()
    assert "fatal" in message


def test_broken_service_with_ever_new_statuses_is_logged_a_hundred_times(
    content_log: ContentLog, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(150):
        content_log.log_unknown_status(make_job(f"status {number}"))
    assert len(caplog.records) == 100
    assert "'status 99'" in caplog.records[-1].getMessage()


def test_unreadable_item_of_a_list_is_logged_as_warning(
    content_log: ContentLog, caplog: pytest.LogCaptureFixture
) -> None:
    problems = [f"item {number} cannot be read: it has no usable id or status" for number in (3, 4)]
    for problem in problems * 2:
        content_log.log_problem("the list of jobs", problem)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"the list of jobs: {problem}") for problem in problems
    ]
