"""What to do about a poll that fails and about a gap, in a sentence for the person on call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

STARTING: Final = "The first poll is under way: it reads back as far as lookback says, which can take a minute or two."
NO_INTEGRATIONS: Final = (
    "EPCC lists no integration for this store. Is it the right store (client_id, store_id), and does "
    "integrations.include in the configuration name one that exists?"
)
FOLDED: Final = (
    "Not every integration has a row and series of its own: those beyond max_series are counted together, as the "
    "integration_id other. Raise max_series."
)
POLL_FAILURES: Final[Mapping[str, str]] = {
    "auth": (
        "EPCC refuses the credentials: compare client_id and the client secret with Commerce Manager. A "
        "secret in a file is read anew, without a restart."
    ),
    "forbidden": (
        "The credentials may not read integrations: use an application key with the grant client_credentials,"
        " and look at org_id and store_id."
    ),
    "rate_limited": (
        "EPCC asks for fewer requests. They are made again later; if it goes on, lower requests_per_second."
    ),
    "server_error": (
        "EPCC answers with an error of its own (5xx): look at its status page. Polls go on by themselves."
    ),
    "timeout": (
        "EPCC did not answer in time: look at its status page and at the network here. Polls go on by themselves."
    ),
    "connection": (
        "No connection to EPCC: look at api_url, DNS, proxy and firewall of the machine the exporter runs on."
    ),
    "tls": (
        "The TLS connection to EPCC failed: look at this machine's clock and CA certificates, and at proxies between."
    ),
    "invalid_response": (
        "What came is not what EPCC's API answers: look at api_url, and whether a proxy answers instead."
    ),
    "not_found": "EPCC does not know what was asked for: look at api_url (without /v2), org_id and store_id.",
    "storage": ("The state cannot be written: look at free space and permissions of --storage.path. Nothing is lost."),
    "other": "An answer that nobody expects, a redirect for example: look at api_url, and at the exporter's log.",
}
GAPS: Final[Mapping[str, str]] = {
    "offset_limit": (
        "More logs came between two polls than EPCC lets anybody read: poll more often, raise requests_per_second."
    ),
    "late": "Logs appeared later than twice the lookback: raise lookback.",
    "retention": (
        "EPCC has let go of logs before they were counted: the exporter was down for longer than it keeps them."
    ),
    "order": ("No two readings of the list agree on what it holds: run epcc-exporter probe, and report what it says."),
    "ties": "More logs bear one and the same time than a page can overlap by: raise page_limit to 100.",
    "paging_ignored": (
        "EPCC brings the first page whatever is asked for: only its newest logs are counted. Report it."
    ),
    "state_lost": ("The state file could not be trusted and was moved aside: counters began at 0. Look at the disk."),
}
