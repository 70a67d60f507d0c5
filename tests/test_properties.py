"""Properties that hold for any job id. More examples: pytest --hypothesis-profile=thorough."""

import asyncio
import re

from hypothesis import given
from hypothesis import strategies as st

from moltin_jobs import InvalidJobIdError, JobsSession
from moltin_jobs.testing import Simulator


@given(st.text(max_size=130) | st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True))
def test_get_job_with_any_id_sends_one_path_segment_or_nothing(job_id: str) -> None:
    async def paths() -> list[str]:
        async with Simulator() as simulator:
            simulator.add_job(job_id)
            async with JobsSession(simulator.token, base_url=simulator.url) as session:
                await session.get_job(job_id)
            return [request.path for request in simulator.requests]

    try:
        sent = asyncio.run(paths())
    except InvalidJobIdError:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", job_id) is None
    else:
        assert sent == [f"/v2/jobs/{job_id}"]
