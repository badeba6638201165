"""The bare loop, and each log a line of a file for mtail: `python -m tests.bench.rivals.lines URL FILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.bench.rivals.loop import pages


async def main() -> None:
    number = 0
    with Path(sys.argv[2]).open("a") as file:  # noqa: ASYNC230  it is the loop's own work
        async for records in pages(sys.argv[1]):
            for record in records:
                integration = record["relationships"]["integration"]["data"]["id"]
                file.write(
                    f"{integration} {record.get('status_code') or 'none'} {int(record['succeeded'])} "
                    f"{record['attempt']} {record['processing_time']}\n"
                )
            file.flush()
            number += len(records)
    sys.stdout.write(f"done {number}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    asyncio.run(main())
