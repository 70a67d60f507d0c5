"""The intervals between polls and between tries, and how long a 429 is obeyed."""

import datetime
import itertools
import math
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from moltin_jobs._polling.intervals import (
    LONGEST_PAUSE,
    Polling,
    Retry,
    parse_retry_after,
    pause_length,
)
from moltin_jobs.errors import ConfigurationError

HUGE = 10**400  # beyond every float
MANY = 10_000
NEVER_SECONDS = [
    pytest.param(0, id="zero"),
    pytest.param(0.0, id="zero-float"),
    pytest.param(-0.0, id="minus-zero"),
    pytest.param(-1, id="negative"),
    pytest.param(-5e-324, id="just-below-zero"),
    pytest.param(math.nan, id="nan"),
    pytest.param(math.inf, id="inf"),
    pytest.param(-math.inf, id="minus-inf"),
    pytest.param(True, id="bool"),
    pytest.param("1", id="str"),
    pytest.param(datetime.timedelta(seconds=1), id="timedelta"),
    pytest.param(1j, id="complex"),
    pytest.param(HUGE, id="huge"),
    pytest.param(-HUGE, id="huge-negative"),
]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(20)


class TestSettings:
    def test_the_defaults_of_polling(self) -> None:
        assert attrs.asdict(Polling()) == {
            "initial": 0.5,
            "factor": 1.2,
            "max_interval": 20.0,
            "jitter": 0.2,
            "outage": 300.0,
        }

    def test_the_defaults_of_retry(self) -> None:
        assert attrs.asdict(Retry()) == {"max_tries": 4, "initial": 0.5, "max_interval": 8.0}

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            (Polling, "initial"),
            (Polling, "max_interval"),
            (Polling, "outage"),
            (Retry, "initial"),
            (Retry, "max_interval"),
        ],
        ids=lambda part: getattr(part, "__name__", part),
    )
    @pytest.mark.parametrize("value", NEVER_SECONDS)
    def test_what_is_no_length_of_time_is_refused(
        self, kind: type[Polling | Retry], name: str, value: Any
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            kind(**{name: value})
        assert str(caught.value) == (
            f"{kind.__name__}.{name} must be a finite number of seconds above 0"
            f"{'' if name == 'outage' else ', up to 1e+09'}, not {value!r}"
        )

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            (Polling, "initial"),
            (Polling, "max_interval"),
            (Retry, "initial"),
            (Retry, "max_interval"),
        ],
        ids=lambda part: getattr(part, "__name__", part),
    )
    def test_an_interval_cannot_be_none(self, kind: type[Polling | Retry], name: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            kind(**{name: None})  # type: ignore[arg-type]  # refusing it is the point
        assert str(caught.value) == (
            f"{kind.__name__}.{name} must be a finite number of seconds above 0, up to 1e+09, "
            f"not None"
        )

    @pytest.mark.parametrize(
        "value",
        [0, 0.999, -1, math.nan, math.inf, True, "2", None, HUGE],
        ids=lambda value: str(value)[:10],
    )
    def test_what_is_no_factor_is_refused(self, value: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Polling(factor=value)
        assert str(caught.value) == (
            f"Polling.factor must be a finite number from 1, not {value!r}"
        )

    @pytest.mark.parametrize(
        "value",
        [-5e-324, -1, 1.0000000000000002, 2, math.nan, math.inf, True, False, "0.2", None, HUGE],
        ids=lambda value: str(value)[:10],
    )
    def test_what_is_no_jitter_is_refused(self, value: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Polling(jitter=value)
        assert str(caught.value) == f"Polling.jitter must be a number from 0 to 1, not {value!r}"

    @pytest.mark.parametrize(
        "value",
        [0, -1, 1.0, 4.0, math.nan, math.inf, True, False, "4", None, -HUGE],
        ids=lambda value: str(value)[:10],
    )
    def test_what_is_no_number_of_tries_is_refused(self, value: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Retry(max_tries=value)
        assert str(caught.value) == f"Retry.max_tries must be an int from 1, not {value!r}"

    @pytest.mark.parametrize(
        ("kind", "name", "value"),
        [
            (Polling, "initial", 5e-324),
            (Polling, "initial", 1),
            (Polling, "max_interval", 5e-324),
            (Polling, "outage", 5e-324),
            (Polling, "outage", 10**300),
            (Polling, "outage", None),
            (Polling, "factor", 1),
            (Polling, "factor", 1.0),
            (Polling, "jitter", 0),
            (Polling, "jitter", 0.0),
            (Polling, "jitter", 1),
            (Polling, "jitter", 1.0),
            (Retry, "max_tries", 1),
            (Retry, "initial", 5e-324),
            (Retry, "max_interval", 5e-324),
        ],
        ids=lambda part: getattr(part, "__name__", str(part)[:10]),
    )
    def test_what_is_just_possible_is_accepted(
        self, kind: type[Polling | Retry], name: str, value: Any
    ) -> None:
        assert getattr(kind(**{name: value}), name) == value

    @pytest.mark.parametrize("kind", [Polling, Retry])
    def test_they_are_frozen_slotted_and_by_name_only(self, kind: Any) -> None:
        settings = kind()
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            settings.initial = 1.0
        assert not hasattr(settings, "__dict__")
        with pytest.raises(TypeError, match="positional argument"):
            kind(1.0)


class TestPolling:
    def test_the_first_intervals(self) -> None:
        found = list(itertools.islice(Polling(jitter=0).intervals(), 5))
        assert found == pytest.approx([0.5, 0.6, 0.72, 0.864, 1.0368])

    def test_the_longest(self) -> None:
        found = list(itertools.islice(Polling(jitter=0).intervals(), MANY))
        assert found[20] == pytest.approx(0.5 * 1.2**20)
        assert found[20] < 20
        assert set(found[21:]) == {20.0}

    @pytest.mark.parametrize(
        ("polling", "wanted"),
        [
            pytest.param(
                Polling(initial=1, factor=2, max_interval=5, jitter=0), [1, 2, 4, 5, 5], id="capped"
            ),
            pytest.param(
                Polling(initial=1, factor=2, max_interval=4, jitter=0), [1, 2, 4, 4], id="met"
            ),
            pytest.param(Polling(initial=3, factor=1, jitter=0), [3, 3, 3], id="constant"),
            pytest.param(
                Polling(initial=3, max_interval=2, jitter=0), [2, 2, 2], id="initial-capped"
            ),
            pytest.param(
                Polling(initial=1e-300, factor=1e200, jitter=0),
                [1e-300, 1e-100, 20, 20],
                id="power-overflows",
            ),
            pytest.param(
                Polling(initial=0.5, factor=1e308, max_interval=30, jitter=0),
                [0.5, 30, 30],
                id="factor-of-any-size",
            ),
        ],
    )
    def test_the_rule(self, polling: Polling, wanted: list[float]) -> None:
        found = list(itertools.islice(polling.intervals(), len(wanted)))
        assert found == pytest.approx(wanted, abs=0)

    @pytest.mark.parametrize("jitter", [0.2, 0.5, 1.0])
    def test_jitter_goes_evenly_both_ways(self, jitter: float) -> None:
        polling = Polling(initial=10, factor=1, max_interval=10, jitter=jitter)
        found = list(itertools.islice(polling.intervals(), MANY))
        spread = 10 * jitter
        assert 10 - spread <= min(found) < 10 - 0.99 * spread
        assert 10 + 0.99 * spread < max(found) <= 10 + spread
        assert statistics.fmean(found) == pytest.approx(10, abs=spread / 50)
        assert statistics.pstdev(found) == pytest.approx(spread / math.sqrt(3), rel=0.02)

    def test_jitter_does_not_accumulate(self) -> None:
        found = list(itertools.islice(Polling().intervals(), MANY))
        for n, interval in enumerate(found[:21]):
            assert 0.8 <= interval / (0.5 * 1.2**n) <= 1.2
        assert 16 <= min(found[21:]) < 16.1
        assert 23.9 < max(found[21:]) <= 24

    def test_each_wait_begins_anew(self) -> None:
        polling = Polling(jitter=0)
        assert next(polling.intervals()) == next(polling.intervals()) == 0.5


class TestRetry:
    @pytest.mark.parametrize("tries", [1, 2, 3, 4, 10])
    def test_one_wait_fewer_than_tries(self, tries: int) -> None:
        assert len(list(Retry(max_tries=tries).intervals())) == tries - 1

    def test_each_is_from_half_of_its_length_to_the_whole(self) -> None:
        runs = [list(Retry(max_tries=8).intervals()) for _ in range(MANY)]
        for waits, nominal in zip(zip(*runs, strict=True), [0.5, 1, 2, 4, 8, 8, 8], strict=True):
            assert nominal / 2 <= min(waits) < nominal * 0.505
            assert nominal * 0.995 < max(waits) <= nominal
            assert statistics.fmean(waits) == pytest.approx(nominal * 0.75, rel=0.01)

    @pytest.mark.parametrize(
        ("retry", "nominal"),
        [
            pytest.param(Retry(initial=9), [8, 8, 8], id="initial-capped"),
            pytest.param(Retry(max_interval=1.5), [0.5, 1, 1.5], id="capped"),
            pytest.param(Retry(initial=1, max_interval=2), [1, 2, 2], id="whole-numbers"),
        ],
    )
    def test_the_longest(self, retry: Retry, nominal: list[float]) -> None:
        for wait, whole in zip(retry.intervals(), nominal, strict=True):
            assert whole / 2 <= wait <= whole

    def test_thousands_of_tries_outgrow_no_float(self) -> None:
        retry = Retry(max_tries=3000, initial=5e-324, max_interval=1e9)
        assert all(0 <= wait <= 1e9 for wait in retry.intervals())


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is nine hours ahead."""
    monkeypatch.setenv("TZ", "XXX-9")
    time.tzset()
    assert time.localtime(0).tm_hour == 9
    yield
    monkeypatch.undo()
    time.tzset()


NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date in RFC 9110


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            pytest.param("0", 0.0, id="zero"),
            pytest.param("7", 7.0, id="one-digit"),
            pytest.param("120", 120.0, id="digits"),
            pytest.param("007", 7.0, id="leading-zeros"),
            pytest.param(" 5\t", 5.0, id="white-space"),
            pytest.param("999999999", 999999999.0, id="nine-digits"),
            pytest.param("1000000000", 1e9, id="ten-digits"),
            pytest.param("9999999999", 1e9, id="more-than-a-billion"),
            pytest.param("9" * 10_000, 1e9, id="thousands-of-digits"),
            pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", 0.0, id="date-now"),
            pytest.param("Sun, 06 Nov 1994 08:49:36 GMT", 0.0, id="date-past"),
            pytest.param("Sun, 06 Nov 1994 08:49:38 GMT", 1.0, id="date-ahead"),
            pytest.param("Sun, 06 Nov 1994 08:51:37 GMT", 120.0, id="date-further-ahead"),
            pytest.param("Sun, 06 Nov 1994 08:49:40 -0000", 3.0, id="date-naive"),
            pytest.param("Sun, 06 Nov 1994 10:49:40 +0200", 3.0, id="date-with-offset"),
            pytest.param("Sunday, 06-Nov-94 08:49:40 GMT", 3.0, id="date-rfc850"),
            pytest.param("Sun Nov  6 08:49:40 1994", 3.0, id="date-asctime"),
            pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", 1e9, id="date-far-ahead"),
            pytest.param("Wed, 01 Jan 1000 00:00:00 GMT", 0.0, id="date-far-back"),
        ],
    )
    def test_what_can_be_read(self, value: str, seconds: float) -> None:
        found = parse_retry_after(value, NOW)
        assert found == seconds
        assert type(found) is float

    @pytest.mark.usefixtures("far_east")
    @pytest.mark.parametrize(
        "value", ["Sun, 06 Nov 1994 08:49:40 -0000", "Sun Nov  6 08:49:40 1994"]
    )
    def test_a_date_without_a_zone_is_not_in_local_time(self, value: str) -> None:
        assert parse_retry_after(value, NOW) == 3.0

    def test_a_part_of_a_second_counts(self) -> None:
        assert parse_retry_after("Sun, 06 Nov 1994 08:49:38 GMT", NOW + 0.25) == 0.75

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            "  ",
            "1.5",
            "-1",
            "+1",
            "1_000",
            "1 0",
            "0x10",
            "1e3",
            "nan",
            "inf",
            "\u0661\u0662",
            "\u00b2",
            "soon",
            "Sun, 06 Nov 1994",
            "Sun, 06 Nov 99999 08:49:37 GMT",
            "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 +99999999999999999999",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "1994-11-06T08:49:37Z",
            "\ud800",
        ],
        ids=ascii,
    )
    def test_what_cannot_be_read(self, value: str | None) -> None:
        assert parse_retry_after(value, NOW) is None


class TestPause:
    @pytest.mark.parametrize(
        ("storm", "least"),
        [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30), (8, 30), (1000, 30)],
    )
    @pytest.mark.parametrize("retry_after", [None, 0.0, 0.5], ids=str)
    def test_it_grows_with_each_storm_and_is_up_to_a_fifth_longer(
        self, storm: int, least: float, retry_after: float | None
    ) -> None:
        found = [pause_length(storm, retry_after) for _ in range(1000)]
        assert least <= min(found) < 1.005 * least
        assert 1.195 * least < max(found) <= 1.2 * least + 1e-9

    @pytest.mark.parametrize(
        ("storm", "retry_after", "least"),
        [
            pytest.param(1, 5.0, 5.0, id="asked-for-more"),
            pytest.param(3, 3.9, 4.0, id="asked-for-less"),
            pytest.param(6, 31.0, 31.0, id="more-than-the-last-step"),
            pytest.param(1, 100.0, 100.0, id="the-longest-with-all-of-its-fifth"),
        ],
    )
    def test_the_larger_of_both_counts(self, storm: int, retry_after: float, least: float) -> None:
        found = [pause_length(storm, retry_after) for _ in range(1000)]
        assert least <= min(found) < 1.005 * least
        assert 1.195 * least < max(found) <= 1.2 * least + 1e-9

    @pytest.mark.parametrize("retry_after", [120.0, 121.0, 1e9])
    def test_it_is_never_over_two_minutes(self, retry_after: float) -> None:
        assert {pause_length(1, retry_after) for _ in range(100)} == {120.0}
        assert LONGEST_PAUSE == 120.0

    def test_the_fifth_is_cut_at_two_minutes(self) -> None:
        found = [pause_length(1, 110.0) for _ in range(1000)]
        assert 110 <= min(found) < 110.5
        assert max(found) == 120.0
        assert 100 < sum(pause == 120.0 for pause in found) < 900


def test_a_longer_interval_than_thirty_years_is_refused() -> None:
    assert Polling(initial=1e9, max_interval=1e9, jitter=1).max_interval == 1e9
    with pytest.raises(ConfigurationError, match=r"^Polling\.max_interval .* not 1000000001$"):
        Polling(max_interval=10**9 + 1)


def test_a_number_that_cannot_be_shown_is_refused_like_any_other() -> None:
    with pytest.raises(ConfigurationError, match=r"^Polling\.initial must be .* not a int$"):
        Polling(initial=10**5000)
    with pytest.raises(ConfigurationError, match=r"^Retry\.max_tries must be .* not a int$"):
        Retry(max_tries=-(10**5000))


def test_more_tries_than_can_be_counted() -> None:
    assert next(Retry(max_tries=2**70).intervals()) <= 0.5
