"""Where a job id alone leads: to its integration where that is known, else to a choice of integrations. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote, unquote

from exporter import markup
from exporter.markup import JobName


def choice_of(store: str, integration_id: str) -> str:
    """The value of a choice in the form."""
    return f"{quote(store, safe='')}/{quote(integration_id, safe='')}"


def chosen(value: str) -> tuple[str, str] | None:
    """Store and integration; None: it is no choice of ours."""
    store, slash, integration_id = value.partition("/")
    return (unquote(store), unquote(integration_id)) if slash and store and integration_id else None


def rendered(job_id: str, owners: Sequence[JobName], integrations: Sequence[JobName]) -> str:
    """`owners`: integrations that have a job of this id, none or several; `integrations`: all there are to choose."""
    if owners:
        links = "".join(
            f'<li><a href="{markup.text(each.path)}">'
            f"<bdi>{markup.text(each.integration_name)}</bdi></a> of <bdi>{markup.text(each.store)}</bdi></li>"
            for each in owners
        )
        body = f"<p>Several integrations have a job of this id:</p><ul>{links}</ul>"
    else:
        body = _unknown(job_id, integrations)
    shown = markup.text(job_id)
    title = f'Job <code class="id"><bdi>{shown}</bdi></code>' if job_id else "Look up a job"
    return markup.page(
        f"Job {job_id}" if job_id else "Look up a job",
        '<header class="top"><p class="brand"><a href="./">epcc-exporter</a></p></header><main class="job">'
        f'<nav aria-label="Breadcrumb"><a href="./">All integrations</a></nav><h1>{title}</h1>{body}</main>',
        root="",
    )


def no_such_place(stores: Iterable[str], store: str) -> str:
    """For a path that names no store of ours, or an id that is none."""
    names = ", ".join(f"<bdi>{markup.text(name)}</bdi>" for name in stores)
    return markup.page(
        "Nothing here",
        '<header class="top"><p class="brand"><a href="../../../">epcc-exporter</a></p></header><main class="job">'
        "<h1>Nothing here</h1><p>The path is /jobs/STORE/INTEGRATION/JOB, with ids of 200 bytes at most. There is no "
        f"store <bdi>{markup.text(store)}</bdi>, or an id is none; the stores are {names}.</p></main>",
        root="../../../",
    )


def _unknown(job_id: str, integrations: Sequence[JobName]) -> str:
    known = (
        "<p>The exporter does not remember this job: it knows those with an attempt in the last day. EPCC may know it, "
        "if you say which integration it belongs to.</p>"
        if job_id
        else "<p>With its id alone a job of the last day is found; for another one say which integration it is of.</p>"
    )
    options = "".join(
        f'<option value="{markup.text(choice_of(each.store, each.integration_id))}">'
        f"{markup.text(each.store)}: {markup.text(each.integration_name)}</option>"
        for each in integrations
    )
    choice = f'<label for="in">Integration</label><select id="in" name="in">{options}</select>' if options else ""
    return (
        f'{known}<form action="jobs" class="lookup"><label for="id">Job id</label>'
        '<input id="id" name="id" required maxlength="200" autocomplete="off" spellcheck="false" '
        f'value="{markup.text(job_id)}">'
        f"{choice}<button>Look up</button></form>"
    )
