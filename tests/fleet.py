"""One of several processes that share a rate limit: wait for jobs, and print the outcomes."""

import asyncio
import collections
import json
import sys

from moltin_jobs import JobsSession, Polling
from moltin_jobs.redis_limiter import RedisLimiter


async def main(base_url: str, redis_url: str, rate_limit: int, processes: int) -> None:
    job_ids = sys.stdin.read().split()
    async with (
        RedisLimiter(redis_url, "fleet", rate_limit=rate_limit, processes=processes) as limiter,
        JobsSession("simulator-token", base_url=base_url, rate_limit=limiter) as session,
    ):
        outcomes = await session.wait_for_jobs(
            job_ids, polling=Polling(initial_interval=0.1, max_interval=0.1), return_exceptions=True
        )
    kinds = (getattr(outcome, "status", None) or repr(outcome) for outcome in outcomes)
    print(json.dumps(collections.Counter(kinds)))  # noqa: T201 (the result of the process)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
