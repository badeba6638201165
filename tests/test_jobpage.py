"""The job page as HTML: what it says of a job's attempts, and that no text of others is anything but text."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest

from exporter import jobpage, markup, remedies
from exporter.jobpage import ANSWER_SHOWN_MAX, ANSWERS_SHOWN_MAX, STATUS_OF, Look
from exporter.markup import JobName
from exporter.records import Detail
from tests.shelf import NOW, SECOND, attempt

NAME = JobName("acme", "int-1", "Order shipping", "job-1")
HOSTILE = [
    "<script>alert(1)</script>",
    "</pre></details><img src=x onerror=alert(1)>",
    "\"><a href='javascript:alert(1)'>x</a>",
    "\u202egnp.exe",
    "a\x00b\x1b[31mc\u2028d",
    "\ud800",
    "&lt;b&gt;",
]


def detail(number: int | None, at_seconds: float | None, answer: str = "", **changes: object) -> Detail:
    at = None if at_seconds is None else NOW + round(at_seconds * SECOND)
    failed: dict[str, object] = {
        "succeeded": False,
        "status_code": "503",
        "reason": "http_5xx",
        "number": number,
        **changes,
    }
    return Detail(attempt(f"l{number}", at, **failed), answer, len(answer))


def succeeded(number: int, at_seconds: float) -> Detail:
    return detail(number, at_seconds, succeeded=True, status_code="200", reason=None)


def page_of(*details: Detail, more: bool = False, name: JobName = NAME) -> str:
    return jobpage.rendered(name, Look("found", details, more), NOW + 60 * SECOND)


def words(page: str) -> str:
    """As a reader sees it, roughly: without tags, each space once."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_a_job_that_is_not_delivered_says_how_its_last_attempt_failed_and_when() -> None:
    said = words(page_of(detail(1, 0), detail(2, 15), detail(3, 45.5)))
    assert "Not delivered 3 attempts, none succeeded. The last one, 14 s ago: http_5xx, 503" in said
    assert "Attempt 1: Failed" in said
    assert "15 s later Attempt 2" in said
    assert "30 s later Attempt 3" in said
    assert "Time 2023-11-14 22:13:20 UTC Status 503 Processing time 0.250 s" in said


def test_a_delivered_job_says_at_which_attempt_and_how_long_after_the_first() -> None:
    assert "Delivered at attempt 2, 1 min 15 s after the first. 2 attempts in all." in words(
        page_of(detail(1, 0), succeeded(2, 75))
    )
    assert "Delivered at the first attempt. 1 attempt in all." in words(page_of(succeeded(1, 0)))


def test_what_is_not_known_is_said_to_be() -> None:
    said = words(page_of(detail(None, None, status_code="none", processing_us=None, succeeded=None)))
    assert "Unclear 1 attempt; the last one does not say how it ended." in said
    assert "Attempt ?: Unclear Time time not known Status no answer Processing time not known" in said


def test_an_answer_is_shown_whole_at_the_last_attempt_and_folded_before() -> None:
    page = page_of(detail(1, 0, "first answer"), detail(2, 1, "first answer"), detail(3, 2, "second answer"))
    assert re.findall(r"<details( open)?>", page) == ["", " open"]
    assert "The receiver's answer: the same as the one before." in words(page)
    assert ">second answer</pre>" in page
    assert "empty, or none came" in words(page_of(detail(1, 0)))


def test_a_long_answer_is_cut_and_says_by_how_much() -> None:
    page = page_of(detail(1, 0, "x" * 19_999))
    assert page.count("x" * ANSWER_SHOWN_MAX) == 1
    assert "x" * (ANSWER_SHOWN_MAX + 1) not in page
    assert "Cut: 9,999 more characters." in words(page)


def test_many_answers_share_the_page() -> None:
    page = page_of(*[detail(i, i, f"{i} " + "y" * 20_000) for i in range(1, 401)])
    assert len(page) < ANSWERS_SHOWN_MAX * 4


def test_more_attempts_than_were_read_are_said_to_be() -> None:
    assert "there may be more" in words(page_of(detail(1, 0), more=True))
    assert "there may be more" not in words(page_of(detail(1, 0)))


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_text_wherever_they_stand(text: str) -> None:
    name = JobName(text, text, text, text)
    plain = page_of(detail(1, 0, "harmless", error_text="harmless"))
    page = page_of(detail(1, 0, text, error_text=text, status_code=text), name=name)
    assert Tags(page).tags == Tags(plain).tags
    assert markup.text(text) in page
    for unseen in "\u202e\x00\x1b\u2028\ud800":
        assert unseen not in page
    page.encode()
    for outcome in set(STATUS_OF) - {"found", "forbidden"}:
        assert "<script" not in jobpage.rendered(name, Look(outcome, reason="timeout"), NOW)
    assert "<script" not in jobpage.forbidden(name)


def test_what_cannot_be_seen_is_made_visible() -> None:
    assert markup.text("a\u202eb\x00c\td\n") == "a\\u202eb\\u0000c\td\n"


def test_the_errors_text_shows_no_path_of_the_receiver() -> None:
    page = page_of(detail(1, 0, error_text='Post "https://h.example/T0/s3cret?token=s3cret": EOF'))
    assert "https://h.example/…" in page
    assert "s3cret" not in page


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (Look("not_found", code=404), "EPCC has no job of this id for this integration (its answer: 404)."),
        (Look("nothing"), "EPCC knows this job and lists no attempt of it"),
        (Look("rate_limited", retry_after=90.0), "Try again in 1 min 30 s."),
        (Look("busy"), "Try again in a moment."),
        (Look("slow", reason="timeout"), "No answer came in time"),
        (Look("refused", reason="auth", code=401), remedies.POLL_FAILURES["auth"]),
        (Look("down", reason="server_error", code=503), "No usable answer came (its answer: 503)."),
        (Look("down", reason="connection"), remedies.POLL_FAILURES["connection"]),
    ],
)
def test_where_there_is_nothing_to_show_the_page_says_why_and_what_to_do(look: Look, said: str) -> None:
    page = words(jobpage.rendered(NAME, look, NOW))
    assert said in page
    assert "Ask EPCC again" in page


def test_where_answers_are_not_shown_the_page_says_what_to_configure() -> None:
    said = words(jobpage.forbidden(NAME))
    for needed in (
        "--web.config.file",
        "basic_auth_users",
        "RequireAndVerifyClientCert",
        "--web.listen-address=127.0.0.1:10058",
    ):
        assert needed in said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "250 ms"),
        (1.5, "1.5 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (90061, "1 d 1 h"),
    ],
)
def test_a_stretch_of_time_in_two_units_at_most(seconds: float, text: str) -> None:
    assert markup.span(seconds) == text
