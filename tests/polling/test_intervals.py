"""Intervals between polls and between attempts."""

import math
import statistics

import pytest

from moltin_jobs import Polling, Retry
from moltin_jobs._polling.intervals import polling_interval, retry_interval

MANY = 10_000


def polling_samples(polling: Polling, count: int = MANY) -> list[float]:
    return [polling_interval(polling, number) for number in range(count)]


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

    def test_interval_of_a_very_long_wait_is_computed_at_once(self) -> None:
        polling = Polling(initial_interval=1, max_interval=5, multiplier=1 + 1e-12, jitter=0)
        assert polling_interval(polling, 10**6) == pytest.approx(1, rel=1e-4)
        assert polling_interval(polling, 2**70) == 5

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


class TestRetryIntervals:
    def test_interval_is_between_half_of_its_nominal_length_and_all_of_it(self) -> None:
        for number, nominal in enumerate([0.5, 1, 2, 4, 8, 8, 8]):
            samples = [retry_interval(Retry(), number) for _ in range(MANY)]
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
        for number, longest in enumerate(nominal):
            samples = [retry_interval(retry, number) for _ in range(200)]
            assert longest / 2 <= min(samples)
            assert longest * 0.9 < max(samples) <= longest

    def test_thousands_of_intervals_do_not_overflow(self) -> None:
        retry = Retry(initial_interval=5e-324, max_interval=1e9)
        assert all(0 <= retry_interval(retry, number) <= 1e9 for number in range(3000))
        assert retry_interval(retry, 2**70) >= 5e8
