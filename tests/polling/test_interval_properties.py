"""Properties that hold for any setting. More examples: pytest --hypothesis-profile=thorough."""

from hypothesis import given
from hypothesis import strategies as st

from moltin_jobs import Polling, Retry
from moltin_jobs._polling.intervals import polling_interval, retry_interval

SECONDS = st.floats(1e-9, 1e9)
NUMBERS = st.integers(0, 200)


@given(SECONDS, st.floats(1, 1e300), SECONDS, st.floats(0, 1), NUMBERS)
def test_polling_interval_is_within_jitter_of_maximum(
    initial: float, multiplier: float, maximum: float, jitter: float, number: int
) -> None:
    polling = Polling(
        initial_interval=initial, multiplier=multiplier, max_interval=maximum, jitter=jitter
    )
    assert 0 <= polling_interval(polling, number) <= maximum * (1 + jitter) * (1 + 1e-9)


@given(SECONDS, SECONDS, NUMBERS)
def test_retry_interval_is_above_zero_and_at_most_maximum(
    initial: float, maximum: float, number: int
) -> None:
    retry = Retry(initial_interval=initial, max_interval=maximum)
    assert 0 < retry_interval(retry, number) <= maximum * (1 + 1e-9)
