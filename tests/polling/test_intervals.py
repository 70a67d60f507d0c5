"""Intervals between polls and between attempts."""

import math
import statistics

import pytest

from moltin_jobs import Polling, Retry
from moltin_jobs._polling.intervals import polling_intervals, retry_intervals

MANY = 10_000


def polling_samples(polling: Polling, count: int = MANY) -> list[float]:
    intervals = polling_intervals(polling)
    return [intervals.interval(number) for number in range(count)]


class TestPollingIntervals:
    def test_default_intervals_grow_by_a_fifth_up_to_twenty_seconds(self) -> None:
        samples = polling_samples(Polling(jitter=0))
        assert samples[:21] == pytest.approx([0.5 * 1.2**number for number in range(21)])
        assert samples[20] < 20
        assert set(samples[21:]) == {20.0}

    @pytest.mark.parametrize(
        ("polling", "expected"),
        [
            pytest.param(
                Polling(initial_interval=1, multiplier=2, max_interval=5, jitter=0),
                [1, 2, 4, 5, 5],
                id="capped",
            ),
            pytest.param(
                Polling(initial_interval=1, multiplier=2, max_interval=4, jitter=0),
                [1, 2, 4, 4],
                id="maximum-is-a-power",
            ),
            pytest.param(
                Polling(initial_interval=3, multiplier=1, jitter=0), [3, 3, 3], id="constant"
            ),
            pytest.param(
                Polling(initial_interval=3, max_interval=2, jitter=0),
                [2, 2, 2],
                id="initial-above-maximum",
            ),
            pytest.param(
                Polling(initial_interval=1e-300, multiplier=1e200, jitter=0),
                [1e-300, 1e-100, 20, 20],
                id="power-overflows",
            ),
            pytest.param(
                Polling(initial_interval=0.5, multiplier=1e308, max_interval=30, jitter=0),
                [0.5, 30, 30],
                id="huge-multiplier",
            ),
        ],
    )
    def test_intervals_without_jitter_follow_the_rule(
        self, polling: Polling, expected: list[float]
    ) -> None:
        assert polling_samples(polling, len(expected)) == pytest.approx(expected, abs=0)

    def test_intervals_can_be_requested_in_any_order(self) -> None:
        intervals = polling_intervals(Polling(initial_interval=1, multiplier=1.5, jitter=0))
        assert [intervals.interval(number) for number in (9, 2, 0, 5, 2)] == pytest.approx(
            [20, 2.25, 1, 1.5**5, 2.25]
        )

    @pytest.mark.parametrize("jitter", [0.2, 0.5, 1.0])
    def test_jitter_is_even_on_both_sides(self, jitter: float) -> None:
        samples = polling_samples(
            Polling(initial_interval=10, multiplier=1, max_interval=10, jitter=jitter)
        )
        spread = 10 * jitter
        assert 10 - spread <= min(samples) < 10 - 0.99 * spread
        assert 10 + 0.99 * spread < max(samples) <= 10 + spread
        assert statistics.fmean(samples) == pytest.approx(10, abs=spread / 30)
        assert statistics.pstdev(samples) == pytest.approx(spread / math.sqrt(3), rel=0.03)

    def test_jitter_does_not_accumulate(self) -> None:
        samples = polling_samples(Polling())
        for number, interval in enumerate(samples[:21]):
            assert 0.8 <= interval / (0.5 * 1.2**number) <= 1.2
        assert 16 <= min(samples[21:]) < 16.1
        assert 23.9 < max(samples[21:]) <= 24

    def test_equal_settings_share_their_intervals(self) -> None:
        assert polling_intervals(Polling(max_interval=7)) is polling_intervals(
            Polling(max_interval=7.0)
        )
        assert polling_intervals(Polling(max_interval=7)) is not polling_intervals(Polling())


class TestRetryIntervals:
    def test_interval_is_between_half_of_its_nominal_length_and_all_of_it(self) -> None:
        intervals = retry_intervals(Retry())
        for number, nominal in enumerate([0.5, 1, 2, 4, 8, 8, 8]):
            samples = [intervals.interval(number) for _ in range(MANY)]
            assert nominal / 2 <= min(samples) < nominal * 0.505
            assert nominal * 0.995 < max(samples) <= nominal
            assert statistics.fmean(samples) == pytest.approx(nominal * 0.75, rel=0.01)

    @pytest.mark.parametrize(
        ("retry", "nominal"),
        [
            pytest.param(Retry(initial_interval=9), [8, 8, 8], id="initial-above-maximum"),
            pytest.param(Retry(max_interval=1.5), [0.5, 1, 1.5, 1.5], id="capped"),
            pytest.param(Retry(initial_interval=1, max_interval=2), [1, 2, 2], id="integers"),
        ],
    )
    def test_interval_is_capped(self, retry: Retry, nominal: list[float]) -> None:
        intervals = retry_intervals(retry)
        for number, longest in enumerate(nominal):
            samples = [intervals.interval(number) for _ in range(200)]
            assert longest / 2 <= min(samples)
            assert longest * 0.9 < max(samples) <= longest

    def test_thousands_of_intervals_do_not_overflow(self) -> None:
        intervals = retry_intervals(Retry(initial_interval=5e-324, max_interval=1e9))
        assert all(0 <= intervals.interval(number) <= 1e9 for number in range(3000))
        assert intervals.interval(2**70) >= 5e8
