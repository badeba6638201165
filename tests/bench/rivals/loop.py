"""The bare loop: aiohttp, `json.loads`, one page after the other, nothing kept: `python -m tests.bench.rivals.loop URL`.

Nobody who keeps anything can be faster with these two; the other contestants' ratios are to it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

LIMIT = 100


async def pages(url: str) -> AsyncIterator[list[dict[str, Any]]]:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/oauth/access_token", data={"grant_type": "client_credentials"}) as response:
            headers = {"Authorization": f"Bearer {json.loads(await response.read())['access_token']}"}
        offset = 0
        while True:
            query = {"page[limit]": str(LIMIT), "page[offset]": str(offset)}
            async with session.get(f"{url}/v2/integrations/logs", params=query, headers=headers) as response:
                records = json.loads(await response.read())["data"]
            yield records
            offset += len(records)
            if len(records) < LIMIT:
                return


async def main() -> None:
    number = 0
    async for records in pages(sys.argv[1]):
        number += len(records)
    sys.stdout.write(f"done {number}\n")
    sys.stdout.flush()
    sys.stdin.read()  # until whoever measures has read the process's figures


if __name__ == "__main__":
    asyncio.run(main())
