import copy
import datetime
import math
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from moltin_jobs import ConfigurationError, Job, Polling, Retry
from moltin_jobs.models import is_job_id
from moltin_jobs.settings import (
    Secret,
    check_count,
    check_instance,
    check_number,
    check_seconds,
    check_text,
    is_token,
)

HUGE = 10**400  # beyond every float
NO_SECONDS = [
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
NO_COUNTS = [0, -1, 1.0, 4.0, math.nan, math.inf, True, False, "4", None, -HUGE]


def message_of(function: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def name_of(value: object) -> str:
    return getattr(value, "__name__", str(value)[:10])


class TestCheckSeconds:
    @pytest.mark.parametrize("value", [*NO_SECONDS, pytest.param(None, id="none")])
    def test_check_seconds_rejects_value(self, value: object) -> None:
        assert message_of(check_seconds, "timeout", value) == (
            f"timeout must be a finite number of seconds above 0, not {value!r}"
        )

    @pytest.mark.parametrize("value", [5e-324, 1, 1.5, 1.7976931348623157e308], ids=str)
    def test_check_seconds_accepts_finite_number_above_zero(self, value: float) -> None:
        check_seconds("timeout", value)


class TestCheckNumber:
    def test_check_number_accepts_what_predicate_allows(self) -> None:
        check_number("size", 7, "seven", lambda number: number == 7)

    def test_check_number_names_setting_and_expectation(self) -> None:
        assert message_of(check_number, "size", 8, "seven", lambda number: number == 7) == (
            "size must be seven, not 8"
        )

    def test_check_number_rejects_number_without_printable_repr(self) -> None:
        message = message_of(check_number, "size", 10**5000, "any", lambda _: True)
        assert message == "size must be any, not a int"


class TestCheckCount:
    @pytest.mark.parametrize("value", [1, 2, HUGE], ids=name_of)
    def test_check_count_accepts_int_of_at_least_one(self, value: int) -> None:
        check_count("size", value)

    @pytest.mark.parametrize("value", NO_COUNTS, ids=name_of)
    def test_check_count_rejects_value(self, value: object) -> None:
        assert message_of(check_count, "size", value) == (
            f"size must be an int of at least 1, not {value!r}"
        )


class TestCheckText:
    @pytest.mark.parametrize("value", ["a", "ä b", "😀"])
    def test_check_text_accepts_printable_str(self, value: str) -> None:
        check_text("name", value)

    @pytest.mark.parametrize("value", ["", "\n", "a\x00", b"a", 1, None], ids=repr)
    def test_check_text_rejects_value(self, value: object) -> None:
        assert message_of(check_text, "name", value) == (
            f"name must be a non-empty printable str, not {value!r}"
        )


class TestCheckInstance:
    def test_check_instance_returns_value(self) -> None:
        job = Job(id="a", status="pending")
        assert check_instance("job", job, Job) is job

    @pytest.mark.parametrize("value", ["a", None, Job], ids=["str", "none", "class"])
    def test_check_instance_rejects_value_of_other_class(self, value: object) -> None:
        assert message_of(check_instance, "job", value, Job) == f"job must be a Job, not {value!r}"


class TestPollingAndRetry:
    def test_polling_has_documented_defaults(self) -> None:
        assert attrs.asdict(Polling()) == {
            "initial_interval": 0.5,
            "multiplier": 1.2,
            "max_interval": 20.0,
            "jitter": 0.2,
            "max_outage": 300.0,
        }

    def test_retry_has_documented_defaults(self) -> None:
        assert attrs.asdict(Retry()) == {
            "max_attempts": 4,
            "initial_interval": 0.5,
            "max_interval": 8.0,
        }

    @pytest.mark.parametrize("cls", [Polling, Retry])
    @pytest.mark.parametrize("name", ["initial_interval", "max_interval"])
    @pytest.mark.parametrize("value", [*NO_SECONDS, 10**9 + 1, None])
    def test_interval_rejects_value(
        self, cls: type[Polling | Retry], name: str, value: object
    ) -> None:
        assert message_of(cls, **{name: value}) == (
            f"{cls.__name__}.{name} must be a finite number of seconds above 0, at most 1e+09, "
            f"not {value!r}"
        )

    @pytest.mark.parametrize("value", NO_SECONDS)
    def test_max_outage_rejects_value(self, value: object) -> None:
        assert message_of(Polling, max_outage=value) == (
            f"Polling.max_outage must be a finite number of seconds above 0, not {value!r}"
        )

    @pytest.mark.parametrize(
        "value", [0, 0.999, -1, math.nan, math.inf, True, "2", None, HUGE], ids=name_of
    )
    def test_multiplier_rejects_value(self, value: object) -> None:
        assert message_of(Polling, multiplier=value) == (
            f"Polling.multiplier must be a finite number of at least 1, not {value!r}"
        )

    @pytest.mark.parametrize(
        "value",
        [-5e-324, -1, 1.0000000000000002, 2, math.nan, math.inf, True, False, "0.2", None, HUGE],
        ids=name_of,
    )
    def test_jitter_rejects_value(self, value: object) -> None:
        assert message_of(Polling, jitter=value) == (
            f"Polling.jitter must be a number from 0 to 1, not {value!r}"
        )

    @pytest.mark.parametrize("value", NO_COUNTS, ids=name_of)
    def test_max_attempts_rejects_value(self, value: object) -> None:
        assert message_of(Retry, max_attempts=value) == (
            f"Retry.max_attempts must be an int of at least 1, not {value!r}"
        )

    @pytest.mark.parametrize(
        ("cls", "name"), [(Polling, "initial_interval"), (Retry, "max_attempts")], ids=name_of
    )
    def test_setting_rejects_number_without_printable_repr(
        self, cls: type[Polling | Retry], name: str
    ) -> None:
        assert message_of(cls, **{name: -(10**5000)}).endswith(", not a int")

    @pytest.mark.parametrize(
        ("cls", "name", "value"),
        [
            (Polling, "initial_interval", 5e-324),
            (Polling, "initial_interval", 1),
            (Polling, "initial_interval", 1e9),
            (Polling, "max_interval", 5e-324),
            (Polling, "max_interval", 10**9),
            (Polling, "max_outage", 5e-324),
            (Polling, "max_outage", 10**300),
            (Polling, "max_outage", None),
            (Polling, "multiplier", 1),
            (Polling, "multiplier", 1.0),
            (Polling, "multiplier", 1e300),
            (Polling, "jitter", 0),
            (Polling, "jitter", 0.0),
            (Polling, "jitter", 1),
            (Polling, "jitter", 1.0),
            (Retry, "max_attempts", 1),
            (Retry, "max_attempts", 2**70),
            (Retry, "initial_interval", 5e-324),
            (Retry, "max_interval", 5e-324),
            (Retry, "max_interval", 1e9),
        ],
        ids=name_of,
    )
    def test_setting_accepts_value_at_its_limit(
        self, cls: type[Polling | Retry], name: str, value: Any
    ) -> None:
        assert getattr(cls(**{name: value}), name) == value

    @pytest.mark.parametrize("cls", [Polling, Retry])
    def test_settings_are_immutable_hashable_and_keyword_only(self, cls: Any) -> None:
        settings = cls()
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            settings.initial_interval = 1.0
        assert not hasattr(settings, "__dict__")
        assert {settings, cls()} == {settings}
        with pytest.raises(TypeError, match="positional argument"):
            cls(1.0)

    @pytest.mark.parametrize(
        "settings", [Polling(jitter=0, max_outage=None), Retry(max_attempts=1)], ids=repr
    )
    def test_settings_pickle_and_copy(self, settings: Polling | Retry) -> None:
        assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 (made on this line)
        assert copy.deepcopy(settings) == settings


class TestSecret:
    def test_secret_is_in_no_representation_of_it(self) -> None:
        secret = Secret("t0ken")
        texts = [repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", repr([secret])]
        assert "t0ken" not in "".join(texts)
        assert secret.value == "t0ken"
        assert secret.authorization == "Bearer t0ken"

    def test_secrets_are_equal_if_values_are(self) -> None:
        assert {Secret("a"), Secret("a")} == {Secret("a")}
        assert Secret("a") != Secret("b")


class TestIsToken:
    @pytest.mark.parametrize(
        "text",
        ["a", "!", "~", "xa3521ca621113e44", "eyJ0.eyJz-_.c2ln==", "x" * 10_000],
        ids=lambda text: text[:20],
    )
    def test_is_token_accepts_printable_ascii_without_spaces(self, text: str) -> None:
        assert is_token(text) is True

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "a b",
            " a",
            "a ",
            "a\tb",
            "a\n",
            "\x1f",
            "\x7f",
            "\x00",
            "ä",
            "\ud800",
            "a\u00a0",
            b"a",
            None,
            7,
        ],
        ids=ascii,
    )
    def test_is_token_rejects_anything_else(self, text: object) -> None:
        assert is_token(text) is False


class TestIsJobId:
    @pytest.mark.parametrize(
        "text", ["a", "-", "_", "Z9", "974c9db4-38da-4dbf-90c2-33eed5f3e77c", "a" * 128]
    )
    def test_is_job_id_accepts_letters_digits_hyphen_and_underscore(self, text: str) -> None:
        assert is_job_id(text) is True

    @pytest.mark.parametrize(
        "text",
        ["", ".", "..", "a/b", "a b", "a\n", "\na", "ä", "\u0661", "a" * 129, b"a", None, 7],
        ids=ascii,
    )
    def test_is_job_id_rejects_anything_else(self, text: object) -> None:
        assert is_job_id(text) is False
