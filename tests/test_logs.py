"""Log lines: one line per record in either format, each change of state once, and no secret in any of them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import logs

logger = logging.getLogger("exporter.test")
Lines = Callable[[], list[str]]
SECRET = "S3CRET of the-log+tests/=\"'é"


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`setup` takes over the root logger, which is pytest's too; what other tests registered would hide a leak."""
    monkeypatch.setattr(logs, "_secrets", logs._Secrets())
    root, noisy = logging.getLogger(), [logging.getLogger(name) for name in ("aiohttp", "asyncio")]
    before = root.handlers[:], root.level, [each.level for each in noisy]
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for each, level in zip(noisy, before[2], strict=True):
        each.setLevel(level)


def setup(level: str = "debug", form: str = "logfmt") -> Lines:
    stream = io.StringIO()
    logs.setup(level, form, stream)
    return lambda: stream.getvalue().splitlines()


def without_opening(line: str) -> str:
    return re.sub(r"^time=\S+ level=\S+ source=\S+ ", "", line)


def raise_with(text: str) -> None:
    raise ValueError(text)


def test_a_logfmt_line_has_time_level_source_message_and_the_fields_in_their_order() -> None:
    lines = setup()
    logs.log(logger, logging.INFO, "a poll ended", store="acme", pages=3)
    (line,) = lines()
    assert re.fullmatch(
        r'time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=INFO source=test_logs\.py:\d+ msg="a poll ended" store=acme pages=3',
        line,
    )


def test_a_json_line_has_the_same_fields() -> None:
    lines = setup(form="json")
    logs.log(logger, logging.WARNING, "a gap", store="acme", cause="late", count=2)
    (line,) = lines()
    fields = json.loads(line)
    assert list(fields) == ["time", "level", "source", "msg", "store", "cause", "count"]
    assert [fields[key] for key in ("level", "msg", "cause", "count")] == ["WARN", "a gap", "late", "2"]


def test_a_record_of_the_standard_kind_is_a_line_too() -> None:
    lines = setup()
    logging.getLogger("library").error("%d of %s", 3, "pages")
    assert without_opening(lines()[0]) == 'msg="3 of pages"'


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', r'"say \"x\""'),
        ("back\\slash", r'"back\\slash"'),
        ("two\nlines\r", r'"two\nlines\r"'),
        ("\x1b[2J\x9b", r'"\u001b[2J\u009b"'),
        ("line\u2028break\x85", r'"line\u2028break\u0085"'),
        ("été", "été"),
        ("магазин EU", '"магазин EU"'),
        (None, "None"),
        (1.5, "1.5"),
        (["a b"], "\"['a b']\""),
    ],
)
def test_values_are_quoted_where_a_reader_needs_it(value: object, written: str) -> None:
    lines = setup()
    logs.log(logger, logging.INFO, "m", value=value)
    assert [without_opening(line) for line in lines()] == [f"msg=m value={written}"]


@given(message=st.text(max_size=50), value=st.text(max_size=50), form=st.sampled_from(logs.FORMATS))
def test_whatever_is_logged_is_one_printable_line_that_reads_back(message: str, value: str, form: str) -> None:
    lines = setup(form=form)
    logger.info("%s", message, extra={"fields": {"value": value}})
    (line,) = lines()
    assert line.isprintable()
    if form == "json":
        fields = json.loads(line)
        assert (fields["msg"], fields["value"]) == (logs.masked(message), logs.masked(value))


def test_a_value_is_cut_at_its_limit_and_marked() -> None:
    lines = setup()
    logs.log(logger, logging.INFO, "m", whole="x" * logs.VALUE_MAX, cut="y" * (logs.VALUE_MAX + 1))
    assert without_opening(lines()[0]) == f"msg=m whole={'x' * 500} cut={'y' * 500}…"


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["DEBUG", "INFO", "WARN", "ERROR"]),
        ("info", ["INFO", "WARN", "ERROR"]),
        ("warn", ["WARN", "ERROR"]),
        ("warning", ["WARN", "ERROR"]),
        ("error", ["ERROR"]),
    ],
)
def test_lines_below_the_level_are_not_written(level: str, written: list[str]) -> None:
    lines = setup(level)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logs.log(logger, number, "m")
    assert [re.sub(r".* level=(\w+) .*", r"\1", line) for line in lines()] == written


@pytest.mark.parametrize("form", logs.FORMATS)
def test_an_exception_is_its_type_and_frames_in_one_line_and_never_what_it_says(form: str) -> None:
    lines = setup(form=form)
    try:
        raise_with("not registered, and not to be shown")
    except ValueError:
        logger.exception("it broke")
    (line,) = lines()
    assert "not to be shown" not in line
    assert "error" in line
    assert "ValueError" in line
    assert re.search(r"raise_with@test_logs\.py:\d+ < test_an_exception_is_\w+@test_logs\.py:\d+", line)


@pytest.mark.parametrize("form", logs.FORMATS)
@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        f"Bearer {SECRET}.",
        repr(SECRET),
        json.dumps({"client_secret": SECRET}),
        "client_secret=S3CRET+of+the-log%2Btests%2F%3D%22%27%C3%A9&x=1",
        "https://host/?client_secret=S3CRET%20of%20the-log%2Btests%2F%3D%22%27%C3%A9&x=1",
    ],
)
def test_a_registered_secret_leaves_no_line_in_any_of_its_forms(form: str, shown: str) -> None:
    logs.register_secret(SECRET)
    lines = setup(form=form)
    logs.log(logger, logging.ERROR, f"refused: {shown}", detail=shown, error=ValueError(shown))
    logger.error("%s", shown)
    assert len(lines()) == 2
    for line in lines():
        assert "S3CRET" not in line
        assert "<secret>" in line


def test_a_secret_that_holds_another_is_masked_whole() -> None:
    logs.register_secret("inner-token")
    logs.register_secret("outer-inner-token-outer")
    assert logs.masked("outer-inner-token-outer, inner-token") == "<secret>, <secret>"


def test_a_secret_across_the_cut_is_masked_before_it() -> None:
    logs.register_secret("S3CRET-at-the-cut")
    lines = setup()
    logs.log(logger, logging.INFO, "m", value="x" * (logs.VALUE_MAX - 6) + "S3CRET-at-the-cut")
    assert "S3CRET" not in lines()[0]


def test_a_text_too_short_to_be_a_secret_blots_out_nothing() -> None:
    logs.register_secret("")
    logs.register_secret("abc")
    assert logs.masked("abcdef") == "abcdef"


def test_a_secret_in_use_outlives_any_number_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SECRETS_MAX", 10)
    logs.register_secret("in-use-again-and-again")
    for number in range(50):
        logs.register_secret(f"token-number-{number}-")
        assert logs.masked("in-use-again-and-again") == "<secret>"
        logs.register_secret("in-use-again-and-again")
    assert logs.masked("in-use-again-and-again token-number-49-") == "<secret> <secret>"
    assert logs.masked("token-number-0-") == "token-number-0-"


def test_secrets_are_registered_in_one_thread_while_another_logs() -> None:
    lines = setup()

    def register(number: int) -> None:
        logs.register_secret(f"thread-secret-{number}-")

    with ThreadPoolExecutor(4) as pool:
        registering = pool.map(register, range(500))
        for number in range(500):
            logs.log(logger, logging.INFO, "m", number=number)
        assert list(registering) == [None] * 500
    assert [without_opening(line) for line in lines()] == [f"msg=m number={number}" for number in range(500)]


async def test_an_exception_that_nobody_awaited_is_one_line_without_what_it_says() -> None:
    lines = setup("error")
    loop = asyncio.get_running_loop()
    error = ValueError("not registered, and not to be shown")
    failed: asyncio.Future[None] = loop.create_future()
    failed.set_exception(error)
    loop.call_exception_handler({"message": "Task exception was never retrieved", "exception": error, "future": failed})
    assert failed.exception() is error
    (line,) = lines()
    assert without_opening(line).startswith('msg="Task exception was never retrieved" error=ValueError trace=')
    assert "not to be shown" not in line


def test_aiohttps_access_lines_are_off_at_every_level() -> None:
    for level in logs.LEVELS:
        lines = setup(level)
        logging.getLogger("aiohttp.access").info("GET /metrics")
        logging.getLogger("asyncio").debug("Using selector: EpollSelector")
        assert lines() == []


@pytest.mark.parametrize("form", logs.FORMATS)
def test_a_line_that_cannot_be_made_says_so_without_its_arguments(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = setup(form=form)
    logger.info("%d pages", "S3CRET of an argument")
    (line,) = lines()
    assert "a log line could not be written" in line
    assert "TypeError" in line
    assert re.search(r"test_logs\.py:\d+", line)
    assert "S3CRET" not in line + "".join(capsys.readouterr())


def test_a_closed_stream_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logs.setup("info", "logfmt", stream)
    stream.close()
    logs.log(logger, logging.INFO, "m", detail="S3CRET")
    assert "".join(capsys.readouterr()) == ""


def test_setup_again_takes_the_place_of_the_first() -> None:
    first = setup()
    second = setup(form="json")
    logs.log(logger, logging.INFO, "m")
    assert (len(first()), len(second())) == (0, 1)


def test_a_state_is_told_once_until_it_changes() -> None:
    once = logs.OncePerState()
    told = [once.changed("acme", state) for state in ("up", "up", "down", "down", "up")]
    assert told == [True, False, True, False, True]
    assert once.changed("other", "up")


def test_a_state_of_none_is_a_state() -> None:
    once = logs.OncePerState()
    assert [once.changed("acme", None), once.changed("acme", None)] == [True, False]


def test_the_states_that_are_remembered_are_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "STATES_MAX", 2)
    once = logs.OncePerState()
    for key in ("a", "b", "a", "c"):
        once.changed(key, 1)
    assert [once.changed(key, 1) for key in ("c", "a", "b")] == [False, False, True]
