"""The job page: one job's attempts as HTML, with what to do where there is nothing to show. Pure.

Every text in it is somebody else's, a receiver's answer above all: nothing goes into the HTML but through `markup`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from exporter import markup, remedies
from exporter.markup import JobName
from exporter.recent import without_secrets
from exporter.records import Attempt, Detail

LOOK_SECONDS: Final = 20.0  # for all of a look's requests; the token and turns in the budget count
PAGES_MAX: Final = 5  # of a job's logs
PAGE_LIMIT: Final = 100
ANSWER_SHOWN_MAX: Final = 10_000  # characters of one answer
ANSWERS_SHOWN_MAX: Final = 200_000  # of all on a page: with many attempts each gets its share
SUMMARY_CHARACTERS: Final = 90  # of a folded answer
STATUS_OF: Final = {
    "found": 200, "nothing": 404, "not_found": 404, "rate_limited": 503, "busy": 503, "refused": 502, "down": 502,
    "slow": 504, "forbidden": 403,
}  # fmt: skip
_FORBIDDEN: Final = (
    "<p>What receivers answered can hold personal data, so this page shows it only to people who have shown who they "
    "are, or on the exporter's own machine. To allow it, one of these:</p><ul>"
    "<li>passwords or client certificates: <code>basic_auth_users</code>, or "
    "<code>client_auth_type: RequireAndVerifyClientCert</code>, in the file of <code>--web.config.file</code>;</li>"
    "<li>listen on this machine alone: <code>--web.listen-address=127.0.0.1:10058</code>, and open the page under "
    "<code>localhost</code> or <code>127.0.0.1</code> (an SSH tunnel or <code>kubectl port-forward</code> will do)."
    "</li></ul><p>EPCC was not asked.</p>"
)
_AGAIN: Final = '<p><a class="button" href="">Ask EPCC again</a></p>'
# Of an outcome without attempts: kind, title, text. `{code}` is EPCC's answer, `{later}` when to come again.
_FAILURES: Final = {
    "not_found": (
        "warn",
        "EPCC does not know this job",
        "EPCC has no job of this id for this integration{code}. It may be of another integration, or so old that EPCC "
        "has let go of it; a deleted integration takes its jobs along.",
    ),
    "nothing": (
        "warn",
        "No attempt is logged",
        "EPCC knows this job and lists no attempt of it: it was not tried yet, its logs are late, or they were never "
        "written.",
    ),
    "rate_limited": ("bad", "EPCC asks for fewer requests", "Try again{later}. Until then polls wait as well."),
    "busy": ("warn", "Others are looking", "Only a few jobs are looked at at a time. Try again{later}."),
    "slow": ("bad", "EPCC takes too long", f"No answer came in time, which is {LOOK_SECONDS:g} seconds at most."),
    "refused": ("bad", "EPCC refuses", "The exporter's credentials may not read this{code}."),
    "down": ("bad", "EPCC cannot be asked", "No usable answer came{code}."),
}


@dataclass(frozen=True, slots=True)
class Look:
    """What `joblook` has found. `outcome`: found, nothing (known to EPCC, without a log), not_found, rate_limited,
    refused, down, slow or busy."""

    outcome: str
    details: tuple[Detail, ...] = ()  # in order of time
    more: bool = False  # there are more than PAGES_MAX pages hold
    reason: str = ""  # one of metrics.POLL_FAILURE_REASONS, of one that failed
    code: int | None = None
    retry_after: float | None = None  # seconds


def forbidden(name: JobName) -> str:
    return _page(name, _notice("off", "Answers are not shown here", _FORBIDDEN))


def rendered(name: JobName, look: Look, now_ns: int) -> str:
    if look.outcome == "found":
        return _page(name, _summary(look, now_ns) + _attempts(look.details) + _more(look))
    return _page(name, _failure(look))


def _page(name: JobName, body: str) -> str:
    job, integration = markup.text(name.job_id), markup.text(name.integration_name)
    head = (
        '<header class="top"><p class="brand"><a href="../../../">epcc-exporter</a></p></header><main class="job">'
        '<nav aria-label="Breadcrumb"><a href="../../../">All integrations</a> <span aria-hidden="true">/</span> '
        f'<bdi>{markup.text(name.store)}</bdi> <span aria-hidden="true">/</span> <bdi>{integration}</bdi></nav>'
        f'<h1>Job <code class="id"><bdi>{job}</bdi></code></h1>'
    )
    return markup.page(f"Job {name.job_id}: {name.integration_name}", f"{head}{body}</main>", root="../../../")


def _notice(kind: str, title: str, body: str) -> str:
    return f'<section class="notice {kind}"><h2>{title}</h2>{body}</section>'


def _failure(look: Look) -> str:
    kind, title, words = _FAILURES[look.outcome]
    code = f" (its answer: {look.code})" if look.code is not None else ""
    later = f" in {markup.span(look.retry_after)}" if look.retry_after else " in a moment"
    advised = look.outcome in ("refused", "down")
    advice = f"<p>{markup.text(remedies.POLL_FAILURES[look.reason])}</p>" if advised else ""
    return _notice(kind, title, f"<p>{words.format(code=code, later=later)}</p>{advice}{_AGAIN}")


def _summary(look: Look, now_ns: int) -> str:
    attempts = [detail.attempt for detail in look.details]
    delivered = next((each for each in attempts if each.succeeded is True), None)
    first, last = attempts[0], attempts[-1]
    tries = f"{len(attempts)} attempt{'s' if len(attempts) > 1 else ''}"
    if delivered is not None:
        after = _between(first, delivered)
        how = "at the first attempt" if delivered is first else f"at attempt {_number(delivered)}" + (
            f", {markup.span(after)} after the first" if after is not None else "")  # fmt: skip
        return _notice("good", "Delivered", f"<p>Delivered {how}. {tries} in all.</p>")
    if last.succeeded is None:
        return _notice("warn", "Unclear", f"<p>{tries}; the last one does not say how it ended.</p>")
    ago = f", {markup.span(max(0, now_ns - last.created_ns) / 1e9)} ago" if last.created_ns is not None else ""
    return _notice("bad", "Not delivered", (
        f"<p>{tries}, none succeeded. The last one{ago}: <strong>{_outcome(last)}</strong>. "
        f"EPCC tries again by itself, a few times; then it gives up without a word.</p>{_AGAIN}"
    ))  # fmt: skip


def _attempts(details: Sequence[Detail]) -> str:
    shown = max(200, min(ANSWER_SHOWN_MAX, ANSWERS_SHOWN_MAX // len(details)))
    items, before = [], None
    for place, detail in enumerate(details):
        same = before is not None and before.answer == detail.answer and bool(detail.answer)
        is_last = place == len(details) - 1
        items.append(_attempt(detail, before.attempt if before else None, shown, same=same, unfolded=is_last))
        before = detail
    return f'<h2>Attempts, in order</h2><ol class="attempts">{"".join(items)}</ol>'


def _attempt(detail: Detail, before: Attempt | None, shown: int, *, same: bool, unfolded: bool) -> str:
    attempt = detail.attempt
    kind, word = {True: ("good", "Succeeded"), False: ("bad", "Failed"), None: ("warn", "Unclear")}[attempt.succeeded]
    at = markup.utc(attempt.created_ns) if attempt.created_ns is not None else "time not known"
    between = _between(before, attempt) if before is not None else None
    later = f'<span class="later">{markup.span(between)} later</span>' if between is not None else ""
    spent = f"{attempt.processing_us / 1e6:.3f} s" if attempt.processing_us is not None else "not known"
    error = markup.text(without_secrets(attempt.error_text))
    return (
        f'<li class="{kind}">{later}<h3>Attempt {_number(attempt)}: <span class="word">{word}</span></h3>'
        f"<dl><div><dt>Time</dt><dd>{at}</dd></div><div><dt>Status</dt><dd>{_status(attempt)}</dd></div>"
        f"<div><dt>Processing time</dt><dd>{spent}</dd></div></dl>"
        + (f'<p class="error"><span class="label">Error</span> <bdi>{error}</bdi></p>' if error else "")
        + _answer(detail, shown, same=same, unfolded=unfolded)
        + "</li>"
    )


def _answer(detail: Detail, shown: int, *, same: bool, unfolded: bool) -> str:
    if not detail.answer:
        return '<p class="quiet">The receiver\'s answer: empty, or none came.</p>'
    if same and not unfolded:
        return '<p class="quiet">The receiver\'s answer: the same as the one before.</p>'
    answer = detail.answer[:shown]
    cut = detail.answer_characters - len(answer)
    first = answer.strip().split("\n", 1)[0][:SUMMARY_CHARACTERS]
    note = f'<p class="quiet">Cut: {cut:,} more characters.</p>' if cut else ""
    return (
        f"<details{' open' if unfolded else ''}><summary>The receiver's answer, {detail.answer_characters:,} characters"
        f'<span class="first"> <bdi>{markup.text(first)}</bdi></span></summary>'
        f'<pre tabindex="0" aria-label="The receiver\'s answer">{markup.text(answer)}</pre>{note}</details>'
    )


def _more(look: Look) -> str:
    return (
        f'<p class="quiet">These are the {len(look.details)} attempts on the first {PAGES_MAX} pages of {PAGE_LIMIT}; '
        "there may be more.</p>"
        if look.more
        else ""
    )


def _outcome(attempt: Attempt) -> str:
    return f"{markup.text(attempt.reason or 'other')}, {_status(attempt)}"


def _status(attempt: Attempt) -> str:
    code = attempt.status_code
    return {"none": "no answer", "other": "a code that is none"}.get(code, markup.text(code))


def _number(attempt: Attempt) -> str:
    return str(attempt.number) if attempt.number is not None else "?"


def _between(before: Attempt, attempt: Attempt) -> float | None:
    """Seconds; None: a time is not known."""
    if before.created_ns is None or attempt.created_ns is None:
        return None
    return max(0, attempt.created_ns - before.created_ns) / 1e9
