"""Airbyte's CDK as a connector uses it: a declarative source, its records counted and thrown away: `python airbyte.py URL`.

Fairer than in a real sync: no record is written as a message to standard output, no catalog is discovered first.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from airbyte_cdk.models import (  # in an environment of its own
    AirbyteStream,
    ConfiguredAirbyteCatalog,
    ConfiguredAirbyteStream,
    DestinationSyncMode,
    SyncMode,
    Type,
)
from airbyte_cdk.sources.declarative.concurrent_declarative_source import (
    ConcurrentDeclarativeSource,
)

LIMIT = 100


def manifest(url: str) -> dict[str, Any]:
    def parameter(name: str) -> dict[str, str]:
        return {"type": "RequestOption", "inject_into": "request_parameter", "field_name": name}

    retriever = {
        "type": "SimpleRetriever",
        "requester": {
            "type": "HttpRequester", "url_base": url, "path": "/v2/integrations/logs", "http_method": "GET",
            "authenticator": {"type": "BearerAuthenticator", "api_token": "standin"},
        },
        "record_selector": {
            "type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["data"]}
        },
        "paginator": {
            "type": "DefaultPaginator",
            "page_token_option": parameter("page[offset]"),
            "page_size_option": parameter("page[limit]"),
            "pagination_strategy": {"type": "OffsetIncrement", "page_size": LIMIT},
        },
    }  # fmt: skip
    schema = {"type": "object", "additionalProperties": True, "properties": {}}
    return {
        "version": "7.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["logs"]},
        "streams": [
            {
                "type": "DeclarativeStream", "name": "logs", "primary_key": ["id"], "retriever": retriever,
                "schema_loader": {"type": "InlineSchemaLoader", "schema": schema},
            }
        ],
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
    }  # fmt: skip


def main() -> None:
    stream = AirbyteStream(name="logs", json_schema={}, supported_sync_modes=[SyncMode.full_refresh])
    catalog = ConfiguredAirbyteCatalog(
        streams=[
            ConfiguredAirbyteStream(
                stream=stream, sync_mode=SyncMode.full_refresh, destination_sync_mode=DestinationSyncMode.append
            )
        ]
    )
    source = ConcurrentDeclarativeSource(catalog=catalog, config={}, state=[], source_config=manifest(sys.argv[1]))
    messages = source.read(logging.getLogger("bench"), {}, catalog, [])
    number = sum(message.type == Type.RECORD for message in messages)
    sys.stdout.write(f"done {number}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
