"""The simulator as the documents have it, asked by a bare aiohttp session in virtual time."""

import asyncio
import datetime
import itertools
import json
import re
import socket
import time
import uuid
from typing import Any, Self

import aiohttp
import pytest

from moltin_jobs.testing.simulator import AnyFault, Fault, Simulator

pytestmark = pytest.mark.looptime

DOCUMENTED_ID = "974c9db4-38da-4dbf-90c2-33eed5f3e77c"
DOCUMENTED_ERROR = "No results matched the supplied filter"
BEARER = {"Authorization": "Bearer simulator-token"}
WEEK = 7 * 24 * 3600
NANOSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


def now() -> float:
    return asyncio.get_running_loop().time()


def seconds(timestamp: str) -> float:
    return datetime.datetime.fromisoformat(timestamp).timestamp()


class Store:
    """A simulator and a connection to it: what is sent goes out as it stands."""

    def __init__(self, **settings: Any) -> None:
        self.simulator = Simulator(**settings)

    async def __aenter__(self) -> Self:
        await self.simulator.__aenter__()
        self.http = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()
        await self.simulator.__aexit__()

    async def send(
        self,
        path: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        data: Any = None,
    ) -> tuple[int, Any]:
        async with self.http.request(
            method,
            self.simulator.url + path,
            headers=BEARER if headers is None else headers,
            data=data,
        ) as response:
            return response.status, await response.json()

    async def job(self, job_id: str, token: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else BEARER
        return await self.send(f"/v2/jobs/{job_id}", headers=headers)

    async def status(self, job_id: str) -> str:
        code, answer = await self.job(job_id)
        assert code == 200
        status = answer["data"]["status"]
        assert isinstance(status, str)
        return status

    async def sign_in(self, **changes: str) -> tuple[int, Any]:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.simulator.client_id,
            "client_secret": self.simulator.client_secret,
        }
        return await self.send("/oauth/access_token", "POST", headers={}, data={**form, **changes})


class TestShapes:
    async def test_a_finished_job_in_the_current_dialect(self) -> None:
        async with Store() as store:
            store.simulator.add_job(DOCUMENTED_ID, duration=30)
            before = time.time()
            await asyncio.sleep(31)
            code, answer = await store.job(DOCUMENTED_ID)
            url = store.simulator.url
        assert code == 200
        timestamps = answer["data"].pop("timestamps")
        assert answer == {
            "data": {
                "type": "job",
                "id": DOCUMENTED_ID,
                "job_type": "order_export",
                "status": "success",
                "link": {"href": f"{store.simulator.files_url}/{DOCUMENTED_ID}.csv"},
                "links": {"self": f"{url}/v2/jobs/{DOCUMENTED_ID}"},
                "error": "",
            }
        }
        assert timestamps.keys() == {"created_at", "updated_at"}
        assert all(NANOSECONDS.fullmatch(text) for text in timestamps.values())
        created, updated = (seconds(timestamps[f"{act}_at"]) for act in ("created", "updated"))
        assert created == pytest.approx(before, abs=60)
        assert updated - created == pytest.approx(30, abs=1e-3)

    async def test_a_finished_job_in_the_older_dialect_has_no_error_key(self) -> None:
        async with Store(dialect="older") as store:
            store.simulator.add_job("a", duration=0, job_type="promotion")
            _, answer = await store.job("a")
        assert answer["data"]["status"] == "complete"
        assert answer["data"]["job_type"] == "promotion"
        assert answer["data"]["link"]["href"].endswith("/files/a.csv")
        assert "error" not in answer["data"]

    async def test_a_job_not_begun_was_updated_in_the_year_1_and_has_no_file(self) -> None:
        async with Store() as store:
            store.simulator.add_job("first", duration=10)
            store.simulator.add_job("second", duration=10)
            _, answer = await store.job("second")
        assert answer["data"]["status"] == "pending"
        assert answer["data"]["timestamps"]["updated_at"] == "0001-01-01T00:00:00Z"
        assert NANOSECONDS.fullmatch(answer["data"]["timestamps"]["created_at"])
        assert answer["data"]["link"] == {"href": ""}

    @pytest.mark.parametrize("dialect", ["current", "older"])
    async def test_a_failed_job_says_why_in_both_dialects(self, dialect: str) -> None:
        async with Store(dialect=dialect) as store:
            store.simulator.add_job("a", duration=5, error=DOCUMENTED_ERROR)
            _, running = await store.job("a")
            await asyncio.sleep(5)
            _, failed = await store.job("a")
        assert running["data"].get("error", "") == ""
        assert (failed["data"]["status"], failed["data"]["error"]) == ("failed", DOCUMENTED_ERROR)
        assert failed["data"]["link"] == {"href": ""}

    async def test_a_token_that_is_no_token(self) -> None:
        unauthorized = {"errors": [{"status": 401, "title": "Unable to validate access token"}]}
        async with Store() as store:
            store.simulator.add_job("a", duration=0)
            for header in ("", "Bearer", "Bearer no", "Basic simulator-token", "simulator-token"):
                headers = {"Authorization": header} if header else {}
                assert await store.send("/v2/jobs/a", headers=headers) == (401, unauthorized)
            assert (await store.job("a"))[0] == 200

    async def test_not_found_bare_and_in_a_list(self) -> None:
        bare = {
            "title": "Resource Not Found",
            "status": 404,
            "detail": "The resource you are requesting does not exist",
        }
        async with Store() as store:
            assert await store.job("nowhere") == (404, bare)
        async with Store(not_found="list") as store:
            assert await store.job("nowhere") == (404, {"errors": [bare]})

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/"),
            ("PUT", "/v2/jobs"),
            ("POST", "/v2/jobs/a/file"),
            ("GET", "/v1/jobs/a"),
            ("GET", "/oauth/access_token"),
            ("POST", "/v2/jobs/a"),
            ("DELETE", "/v2/jobs/a"),
            ("PUT", "/oauth/access_token"),
        ],
    )
    async def test_a_path_or_a_method_that_is_not_served(self, method: str, path: str) -> None:
        async with Store() as store:
            store.simulator.add_job("a", duration=0)
            store.simulator.spoil(500)
            code, answer = await store.send(path, method)
            assert (code, answer["title"]) == (404, "Resource Not Found")
            assert (await store.job("a"))[0] == 500, "the fault was for a request for a job"

    async def test_a_500_has_a_request_id_and_other_errors_have_none(self) -> None:
        async with Store() as store:
            store.simulator.spoil(500, 500, 503)
            (code, answer), (_, again) = await store.job("a"), await store.job("a")
            assert await store.job("a") == (
                503,
                {"errors": [{"status": 503, "title": "Service Unavailable"}]},
            )
        (error,), (other,) = answer["errors"], again["errors"]
        assert code == error["status"] == 500
        assert error["title"] == "Internal Server Error"
        assert error["detail"] == (
            "There was an internal server error, you can report with your request id."
        )
        assert uuid.UUID(error["request_id"]) != uuid.UUID(other["request_id"])


class TestTheRest:
    @pytest.mark.parametrize(("dialect", "status"), [("current", 202), ("older", 201)])
    async def test_a_created_job_runs_and_has_a_file(self, dialect: Any, status: int) -> None:
        async with Store(dialect=dialect, creation_seconds=30) as store:
            wanted = {"data": {"type": "job", "job_type": "order_export", "filter": "a"}}
            code, answer = await store.send("/v2/jobs", "POST", data=json.dumps(wanted))
            data = answer["data"]
            job_id = (data[0] if dialect == "current" else data)["id"]
            assert code == status
            assert (await store.send(f"/v2/jobs/{job_id}/file"))[0] == 404, "not yet"
            await asyncio.sleep(31)
            code, answer = await store.send(f"/v2/jobs/{job_id}/file")
            href = f"{store.simulator.files_url}/{job_id}.csv"
            assert (code, answer) == (
                200,
                {"data": {"href": href}} if dialect == "current" else {"href": href},
            )
            assert (await store.send("/v2/jobs"))[1]["data"][0]["id"] == job_id

    @pytest.mark.parametrize(
        "wanted",
        [
            None,
            {},
            {"data": []},
            {"data": {"type": "job"}},
            {"data": {"type": "a", "job_type": "b"}},
            {"data": {"type": "job", "job_type": "order_export", "filter": 5}},
        ],
    )
    async def test_what_is_no_job_is_not_created(self, wanted: Any) -> None:
        async with Store() as store:
            code, _ = await store.send("/v2/jobs", "POST", data=json.dumps(wanted))
            assert code == 400
            assert (await store.send("/v2/jobs"))[1] == {"data": []}

    async def test_the_host_of_the_files_takes_no_token(self) -> None:
        async with Store() as store, aiohttp.ClientSession() as client:
            store.simulator.add_job("a", duration=0, file=b"order_id")
            url = store.simulator.files_url
            async with client.get(f"{url}/a.csv") as found:
                assert (found.status, await found.read()) == (200, b"order_id")
            async with client.get(f"{url}/b.csv") as missing:
                assert missing.status == 404
            told = {"Authorization": "Bearer a"}
            async with client.get(f"{url}/a.csv", headers=told) as refused:
                assert refused.status == 400


class TestTokens:
    async def test_a_token_is_issued_and_opens_a_job(self) -> None:
        async with Store() as store:
            store.simulator.add_job("a", duration=0)
            before = time.time()
            code, answer = await store.sign_in()
            assert (await store.job("a", answer["access_token"]))[0] == 200
            assert (await store.sign_in())[1]["access_token"] != answer["access_token"]
        assert code == 200
        assert answer.keys() == {
            "expires",
            "identifier",
            "expires_in",
            "access_token",
            "token_type",
        }
        assert answer["identifier"] == "client_credentials"
        assert answer["token_type"] == "Bearer"
        assert answer["expires_in"] == 3600
        assert isinstance(answer["expires"], int)
        assert answer["expires"] == pytest.approx(before + 3600, abs=60)

    async def test_it_expires_and_the_fixed_one_does_not(self) -> None:
        async with Store(token_lifetime=100) as store:
            store.simulator.add_job("a", duration=0)
            _, answer = await store.sign_in()
            assert answer["expires_in"] == 100
            await asyncio.sleep(99)
            assert (await store.job("a", answer["access_token"]))[0] == 200
            await asyncio.sleep(1.1)
            assert (await store.job("a", answer["access_token"]))[0] == 401
            assert (await store.job("a"))[0] == 200

    async def test_revoking_spares_those_issued_later(self) -> None:
        async with Store() as store:
            store.simulator.add_job("a", duration=0)
            _, old = await store.sign_in()
            store.simulator.revoke_tokens()
            _, new = await store.sign_in()
            assert (await store.job("a", old["access_token"]))[0] == 401
            assert (await store.job("a", new["access_token"]))[0] == 200
            assert (await store.job("a"))[0] == 200

    @pytest.mark.parametrize("wrong", ["client_id", "client_secret"])
    async def test_wrong_credentials(self, wrong: str) -> None:
        async with Store() as store:
            assert await store.sign_in(**{wrong: "wrong"}) == (
                401,
                {"errors": [{"status": 401, "title": "Unauthorized"}]},
            )

    async def test_another_grant_type_or_no_form_at_all(self) -> None:
        bad_request = {"errors": [{"status": 400, "title": "Bad Request"}]}
        async with Store() as store:
            assert await store.sign_in(grant_type="password") == (400, bad_request)
            assert await store.send("/oauth/access_token", "POST", data=b"{}") == (
                400,
                bad_request,
            )

    async def test_names_of_ones_own(self) -> None:
        async with Store(token="t", client_id="me", client_secret="mine") as store:
            store.simulator.add_job("a", duration=0)
            assert (await store.job("a", "t"))[0] == 200
            assert (await store.job("a"))[0] == 401
            assert (await store.sign_in(client_id="me", client_secret="mine"))[0] == 200


class TestRateLimit:
    async def test_a_sliding_second_holds_no_more_and_the_refused_do_not_count(self) -> None:
        limited = {"errors": [{"status": 429, "title": "Too Many Requests"}]}
        async with Store(rate_limit=3) as store:
            store.simulator.add_job("a", duration=0)
            start = now()

            async def at(moment: float) -> int:
                await asyncio.sleep(start + moment - now())
                return (await store.job("a"))[0]

            assert [await at(0), await at(0.6), await at(0.6)] == [200, 200, 200]
            assert await store.job("a") == (429, limited)
            assert [await at(0.9), await at(0.98)] == [429, 429]
            assert [await at(1.01), await at(1.01)] == [200, 429]
            assert [await at(1.61), await at(1.61), await at(1.61)] == [200, 200, 429]

    async def test_by_default_25_whatever_they_ask_for(self) -> None:
        async with Store() as store:
            assert (await store.sign_in())[0] == 200
            assert (await store.send("/nowhere"))[0] == 404
            answers = await asyncio.gather(*(store.job("a", "wrong") for _ in range(24)))
            assert sorted(code for code, _ in answers) == [401] * 23 + [429]
            assert (await store.sign_in())[0] == 429
            await asyncio.sleep(1.1)
            assert (await store.sign_in())[0] == 200

    async def test_none_is_no_limit(self) -> None:
        async with Store(rate_limit=None) as store:
            store.simulator.add_job("a", duration=0)
            answers = await asyncio.gather(*(store.job("a") for _ in range(60)))
        assert {code for code, _ in answers} == {200}


class TestJobs:
    async def test_they_run_one_at_a_time_in_the_order_of_their_creation(self) -> None:
        async with Store() as store:
            ids = [store.simulator.add_job(duration=length) for length in (10, 5, 20)]
            seen = []
            for _ in range(8):
                seen.append([(await store.status(job_id))[0:2] for job_id in ids])
                await asyncio.sleep(5)
            store.simulator.add_job("late", duration=3)
            assert await store.status("late") == "started"
        waiting, running, done = "pe", "st", "su"
        assert seen == [
            [running, waiting, waiting],
            [running, waiting, waiting],
            [done, running, waiting],
            [done, done, running],
            [done, done, running],
            [done, done, running],
            [done, done, running],
            [done, done, done],
        ]

    async def test_updated_at_is_when_it_began_then_when_it_ended(self) -> None:
        async with Store() as store:
            store.simulator.add_job("first", duration=10)
            store.simulator.add_job("second", duration=10)
            updates = []
            for pause in (12, 1, 12):
                await asyncio.sleep(pause)
                timestamps = (await store.job("second"))[1]["data"]["timestamps"]
                updates.append(
                    seconds(timestamps["updated_at"]) - seconds(timestamps["created_at"])
                )
        assert updates == [pytest.approx(at, abs=1e-3) for at in (10, 10, 20)]

    @pytest.mark.parametrize(
        ("dialect", "spelled"), [("current", "started"), ("older", "processing")]
    )
    async def test_running_is_spelled_in_the_dialect(self, dialect: str, spelled: str) -> None:
        async with Store(dialect=dialect) as store:
            store.simulator.add_job("a", duration=10)
            store.simulator.add_job("b", duration=10)
            assert [await store.status("a"), await store.status("b")] == [spelled, "pending"]

    async def test_by_default_it_has_a_new_uuid_and_runs_for_1_to_60_seconds(self) -> None:
        async with Store(rate_limit=None) as store:
            ids = [store.simulator.add_job() for _ in range(50)]
            assert len({uuid.UUID(job_id) for job_id in ids}) == 50
            await asyncio.sleep(50 * 60)
            ends = []
            for job_id in ids:
                _, answer = await store.job(job_id)
                ends.append(seconds(answer["data"]["timestamps"]["updated_at"]))
        lengths = [end - start for start, end in itertools.pairwise(ends)]
        assert all(0.999 <= length <= 60.001 for length in lengths)
        assert min(lengths) < 5
        assert max(lengths) > 20

    async def test_the_same_seed_gives_the_same_jobs(self) -> None:
        ids = []
        for seed in (1, 1, 2):
            async with Simulator(seed=seed) as simulator:
                ids.append([simulator.add_job() for _ in range(3)])
        assert ids[0] == ids[1] != ids[2]

    async def test_a_script_gives_a_status_a_poll_and_the_last_stays(self) -> None:
        async with Store() as store:
            script = ["pending", "Started", "cancelling", "cancelled"]
            store.simulator.add_job("a", script)
            assert [await store.status("a") for _ in range(6)] == [*script, *["cancelled"] * 2]

    async def test_a_scripted_job_is_dated_by_its_polls_and_holds_up_no_other(self) -> None:
        async with Store() as store:
            store.simulator.add_job("a", ["pending", "success"])
            store.simulator.add_job("b", duration=1)
            assert await store.status("b") == "started"
            first = (await store.job("a"))[1]["data"]
            await asyncio.sleep(40)
            second = (await store.job("a"))[1]["data"]
        assert first["timestamps"]["updated_at"] == "0001-01-01T00:00:00Z"
        created, updated = (
            seconds(second["timestamps"][f"{act}_at"]) for act in ("created", "updated")
        )
        assert updated - created == pytest.approx(40, abs=1)
        assert (first["link"]["href"], second["link"]["href"][-6:]) == ("", "/a.csv")

    async def test_a_scripted_failure_says_why_only_once_it_failed(self) -> None:
        async with Store() as store:
            store.simulator.add_job("a", ["started", "FAILED"], error=DOCUMENTED_ERROR)
            errors = [(await store.job("a"))[1]["data"]["error"] for _ in range(2)]
            store.simulator.add_job("b", ["failed"])
            assert (await store.job("b"))[1]["data"]["error"] == ""
        assert errors == ["", DOCUMENTED_ERROR]

    async def test_it_expires_a_week_after_its_creation(self) -> None:
        async with Store() as store:
            store.simulator.add_job("a", duration=1)
            await asyncio.sleep(WEEK - 1)
            store.simulator.add_job("b", duration=1)
            assert await store.status("a") == "success"
            await asyncio.sleep(2)
            assert (await store.job("a"))[0] == 404
            assert await store.status("b") == "success"


class TestFaults:
    async def test_a_reset_closes_without_an_answer(self) -> None:
        async with Store() as store:
            store.simulator.spoil(*["reset"] * 2)  # aiohttp sends a GET again by itself, once
            with pytest.raises(aiohttp.ClientConnectionError):
                await store.job("a")
            assert {request.status for request in store.simulator.requests} == {None}

    async def test_a_hang_lasts_until_the_client_leaves(self) -> None:
        async with Store() as store:
            store.simulator.add_job("a", duration=0)
            store.simulator.spoil("hang")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.job("a"), 3600)
            assert await store.status("a") == "success"
            assert [request.status for request in store.simulator.requests] == [None, 200]

    async def test_a_hang_does_not_hold_up_the_end(self) -> None:
        async with Store() as store:
            store.simulator.spoil("hang")
            task = asyncio.create_task(store.job("a"))
            await asyncio.sleep(1)
            start = now()
            await store.simulator.__aexit__()
            assert now() - start < 1
            with pytest.raises(aiohttp.ClientConnectionError):
                await task

    async def test_a_truncated_answer_stops_within_its_body(self) -> None:
        async with Store() as store:
            store.simulator.spoil("truncate")
            response = await store.http.get(store.simulator.url + "/v2/jobs/a", headers=BEARER)
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    async def test_garbage_is_not_http(self) -> None:
        async with Store() as store:
            store.simulator.spoil("garbage")
            with pytest.raises(aiohttp.ClientResponseError):
                await store.job("a")

    async def test_html_is_a_proxys_page_with_status_200(self) -> None:
        async with Store() as store:
            store.simulator.spoil("html")
            async with store.http.get(
                store.simulator.url + "/v2/jobs/a", headers=BEARER
            ) as response:
                assert (response.status, response.content_type) == (200, "text/html")
                assert (await response.text()).startswith("<html>")

    async def test_a_fault_is_sent_as_it_stands(self) -> None:
        async with Store() as store:
            store.simulator.spoil(Fault(418, {"Retry-After": "7"}, b"short and stout"), Fault())
            url = store.simulator.url + "/v2/jobs/a"
            async with store.http.get(url, headers=BEARER) as response:
                assert (response.status, response.headers["Retry-After"]) == (418, "7")
                assert await response.read() == b"short and stout"
            async with store.http.get(url, headers=BEARER) as response:
                assert (response.status, await response.read()) == (200, b"")

    async def test_they_come_in_order_and_then_the_right_answer(self) -> None:
        async with Store() as store:
            store.simulator.add_job("a", duration=0)
            store.simulator.spoil(500, 403)
            store.simulator.spoil(404)
            codes = [(await store.job("a"))[0] for _ in range(4)]
        assert codes == [500, 403, 404, 200]

    async def test_those_for_one_job_spare_the_others(self) -> None:
        async with Store() as store:
            store.simulator.add_job("a", ["pending", "success"])
            store.simulator.add_job("b", ["pending"])
            store.simulator.spoil(500, job_id="a")
            store.simulator.spoil(503)
            asked = ["b", "b", "a", "a", "a"]
            assert [(await store.job(job_id))[0] for job_id in asked] == [503, 200, 500, 200, 200]
            assert await store.status("a") == "success"

    async def test_a_spoiled_poll_does_not_move_the_script(self) -> None:
        async with Store() as store:
            store.simulator.add_job("a", ["pending", "success"])
            store.simulator.spoil(500)
            assert (await store.job("a"))[0] == 500
            assert await store.status("a") == "pending"

    @pytest.mark.parametrize("fault", ["rest", "", 0, 299, 1000])
    async def test_what_is_no_fault_is_refused_and_nothing_is_spoiled(
        self, fault: AnyFault
    ) -> None:
        async with Store() as store:
            store.simulator.add_job("a", duration=0)
            with pytest.raises(ValueError, match=f"^{fault!r} is no "):
                store.simulator.spoil(500, fault)
            assert (await store.job("a"))[0] == 200


class TestChaos:
    async def outcomes(self, **settings: Any) -> list[Any]:
        async with Store(rate_limit=None, **settings) as store:
            store.simulator.add_job("a", duration=0)
            seen: list[Any] = []
            for _ in range(60):
                try:
                    seen.append((await store.job("a"))[0])
                except aiohttp.ClientError as error:
                    seen.append(type(error))
            assert (await store.sign_in())[0] == 200, "tokens are spared"
        return seen

    async def test_the_same_seed_spoils_the_same_requests(self) -> None:
        first = await self.outcomes(chaos=0.3, seed=7)
        assert first == await self.outcomes(chaos=0.3, seed=7)
        assert first != await self.outcomes(chaos=0.3, seed=8)
        assert 30 <= first.count(200) <= 50
        assert {200, 429, 500, 503, aiohttp.ContentTypeError} <= set(first)

    async def test_none_and_all(self) -> None:
        assert set(await self.outcomes()) == {200}
        assert 200 not in await self.outcomes(chaos=1)


class TestRequests:
    async def test_what_was_asked_is_kept_and_no_token(self) -> None:
        async with Store() as store:
            store.simulator.add_job("a", duration=0)
            start = now()
            _, answer = await store.sign_in()
            await asyncio.sleep(2)
            await store.job("a", answer["access_token"])
            await store.job("b", "wrong-token")
            await store.send("/v2/jobs", "POST")
            kept = store.simulator.requests
        assert [(one.method, one.path, one.job_id, one.status) for one in kept] == [
            ("POST", "/oauth/access_token", None, 200),
            ("GET", "/v2/jobs/a", "a", 200),
            ("GET", "/v2/jobs/b", "b", 401),
            ("POST", "/v2/jobs", None, 400),
        ]
        assert [one.at - start for one in kept] == pytest.approx([0, 2, 2, 2], abs=0.5)
        for secret in ("wrong-token", answer["access_token"], store.simulator.client_secret):
            assert secret not in repr(kept)

    async def test_the_latency_comes_before_every_answer(self) -> None:
        async with Store(latency=30, rate_limit=1) as store:
            start = now()
            answers = await asyncio.gather(store.job("a"), store.job("a"))
            assert sorted(code for code, _ in answers) == [404, 429]
            assert 30 <= now() - start < 31
            task = asyncio.create_task(store.job("a"))
            await asyncio.sleep(10)
            assert store.simulator.requests[-1].status is None, "not answered yet"
            await task
            assert store.simulator.requests[-1].status == 404

    async def test_a_port_of_ones_own(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match="address already in use"):
                await Simulator(port).__aenter__()
        async with Store(port=port) as store:
            assert store.simulator.url == f"http://127.0.0.1:{port}"
            assert (await store.job("a"))[0] == 404


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"dialect": "new"}, "dialect must be 'current' or 'older', not 'new'"),
            ({"not_found": "html"}, "not_found must be 'bare' or 'list', not 'html'"),
            ({"chaos": -0.1}, "chaos must be from 0 to 1, not -0.1"),
            ({"chaos": 1.1}, "chaos must be from 0 to 1, not 1.1"),
            ({"chaos": float("nan")}, "chaos must be from 0 to 1, not nan"),
            ({"rate_limit": 0}, "rate_limit must be from 1, or None, not 0"),
            ({"latency": -1.0}, "latency must be a number of seconds from 0, not -1.0"),
            ({"latency": float("inf")}, "latency must be a number of seconds from 0, not inf"),
        ],
    )
    async def test_what_cannot_be_is_refused(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Simulator(**settings)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"statuses": []}, "statuses must be a list of at least one, not []"),
            ({"statuses": "success"}, "statuses must be a list of at least one, not 'success'"),
            (
                {"statuses": ["success"], "duration": 1},
                "a job has statuses or a duration, not both",
            ),
            ({"duration": -1}, "duration must be a number of seconds from 0, not -1"),
            ({"duration": float("inf")}, "duration must be a number of seconds from 0, not inf"),
            ({"duration": float("nan")}, "duration must be a number of seconds from 0, not nan"),
            ({"job_id": "a"}, "there is a job 'a' already: give another id"),
        ],
    )
    async def test_no_such_job_is_added(self, arguments: dict[str, Any], message: str) -> None:
        async with Store() as store:
            store.simulator.add_job("a", duration=0)
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                store.simulator.add_job(**({"job_id": "b"} | arguments))
            assert (await store.job("b"))[0] == 404
            store.simulator.add_job("c", duration=1)
            assert await store.status("c") == "started", "the queue is as it was"
