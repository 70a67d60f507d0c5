"""Properties that hold for any 429. More examples: pytest --hypothesis-profile=thorough."""

from hypothesis import given
from hypothesis import strategies as st

from moltin_jobs._api.failures import parse_retry_after
from moltin_jobs._http.rate_limit import cooldown_seconds


@given(st.integers(1, 10**9), st.none() | st.floats(0, 1e9))
def test_cooldown_is_from_one_second_to_two_minutes(bursts: int, retry_after: float | None) -> None:
    assert 1 <= cooldown_seconds(bursts, retry_after) <= 120


@given(
    st.text() | st.from_regex(r"\s*[+-]?[0-9_.e]+\s*") | st.datetimes().map(str), st.floats(0, 4e9)
)
def test_cooldown_of_any_retry_after_header_is_from_one_second_to_two_minutes(
    value: str, now: float
) -> None:
    assert 1 <= cooldown_seconds(1, parse_retry_after(value, now)) <= 120
