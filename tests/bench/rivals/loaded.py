"""dlt into something durable, with its state: `python loaded.py URL FOLDER duckdb|files`.

`duckdb` dedupes on the id (merge); `files` appends Parquet and rests on the cursor in dlt's state, which is the fastest
that it has. Parquet is what it loads fastest in both: its default for DuckDB, INSERT statements, takes four times as long.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}

import dlt  # in an environment of its own
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import OffsetPaginator

LIMIT = 100


def main() -> None:
    url, folder, kind = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    client = RESTClient(
        base_url=f"{url}/v2/",
        auth=BearerTokenAuth("standin"),
        paginator=OffsetPaginator(
            limit=LIMIT, offset_param="page[offset]", limit_param="page[limit]", total_path=None,
            stop_after_empty_page=True,
        ),
    )  # fmt: skip

    def logs(
        created: Any = dlt.sources.incremental("meta.timestamps.created_at", row_order="desc"),  # noqa: B008  dlt's way
    ) -> Iterator[Any]:
        yield from client.paginate("integrations/logs", data_selector="data")

    disposition = "merge" if kind == "duckdb" else "append"
    resource = dlt.resource(
        logs, name="logs", primary_key="id", write_disposition=disposition, max_table_nesting=0
    )  # fmt: skip
    destination = (
        dlt.destinations.duckdb(str(folder / "logs.duckdb"))
        if kind == "duckdb"
        else dlt.destinations.filesystem(f"file://{folder / 'files'}")
    )
    pipeline = dlt.pipeline(
        "bench", destination=destination, dataset_name="epcc", pipelines_dir=str(folder / "pipelines")
    )
    pipeline.run(resource(), loader_file_format="parquet")
    number = pipeline.last_trace.last_normalize_info.row_counts["logs"]
    sys.stdout.write(f"done {number}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
