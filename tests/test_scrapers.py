"""When a newborn series may show its number: after every scraper has read its 0."""

from __future__ import annotations

from exporter.scrapers import CLIENTS_MAX, PATIENCE_SECONDS, SEEN_SECONDS, Key, Scrapers

A, B = ("10.0.0.1", "Prometheus/3.5"), ("10.0.0.2", "Prometheus/3.5")
CURL = ("127.0.0.1", "curl/8")
KEY: Key = ("acme", "int-1", None)
OTHER: Key = ("acme", "int-1", "503")


def book(*keys: Key, version: int = 1) -> Scrapers:
    made = Scrapers()
    made.newborn(keys, version)
    return made


def test_nothing_is_ready_before_somebody_has_read_it() -> None:
    assert book(KEY).ready(10_000) == set()


def test_a_series_that_the_only_scraper_has_read_is_ready() -> None:
    scrapers = book(KEY)
    scrapers.read(A, True, 1, 0)
    assert scrapers.ready(0) == {KEY}


def test_a_scrape_that_was_rendered_before_the_series_was_born_counts_for_nothing() -> None:
    scrapers = book(KEY, version=5)
    scrapers.read(A, True, 4, 0)
    assert scrapers.ready(0) == set()
    assert scrapers.ready(PATIENCE_SECONDS) == set()  # patience begins with the first showing


def test_a_page_from_before_the_birth_is_no_reading_where_no_scraper_was_seen_either() -> None:
    scrapers = book(KEY, version=5)
    scrapers.read(CURL, False, 4, 0)
    assert scrapers.ready(PATIENCE_SECONDS) == set()
    scrapers.read(CURL, False, 5, 1)
    assert scrapers.ready(1) == {KEY}


def test_every_scraper_of_the_last_five_minutes_is_waited_for() -> None:
    scrapers = Scrapers()
    scrapers.read(B, True, 0, 0)
    scrapers.newborn([KEY], 1)
    scrapers.read(A, True, 1, 10)
    assert scrapers.ready(10) == set()
    scrapers.read(B, True, 1, 20)
    assert scrapers.ready(20) == {KEY}


def test_a_scraper_that_has_gone_silent_is_waited_for_no_longer() -> None:
    scrapers = Scrapers()
    scrapers.read(B, True, 0, 0)
    scrapers.newborn([KEY], 1)
    scrapers.read(A, True, 1, SEEN_SECONDS - 1)
    assert scrapers.ready(SEEN_SECONDS - 1) == set()
    assert scrapers.ready(SEEN_SECONDS + 1) == {KEY}


def test_nobody_is_waited_for_longer_than_two_minutes_after_the_first_reading() -> None:
    scrapers = Scrapers()
    scrapers.read(B, True, 0, 0)
    scrapers.newborn([KEY], 1)
    scrapers.read(A, True, 1, 100)
    assert scrapers.ready(100 + PATIENCE_SECONDS - 1) == set()
    assert scrapers.ready(100 + PATIENCE_SECONDS) == {KEY}


def test_the_end_of_patience_is_known_beforehand() -> None:
    scrapers = book(KEY)
    assert scrapers.deadline() is None
    scrapers.read(B, True, 0, 0)
    scrapers.read(A, True, 1, 7)
    assert scrapers.deadline() == 7 + PATIENCE_SECONDS
    scrapers.forget([KEY])
    assert scrapers.deadline() is None


def test_a_curl_beside_a_scraper_delays_nothing_and_counts_for_nothing() -> None:
    scrapers = Scrapers()
    scrapers.read(A, True, 0, 0)
    scrapers.newborn([KEY], 1)
    scrapers.read(CURL, False, 1, 1)
    assert scrapers.ready(1 + PATIENCE_SECONDS) == set()
    scrapers.read(A, True, 1, 15)
    assert scrapers.ready(15) == {KEY}


def test_where_no_scraper_was_seen_any_clients_reading_will_do() -> None:
    scrapers = book(KEY)
    scrapers.read(CURL, False, 1, 0)
    assert scrapers.ready(0) == {KEY}


def test_a_client_without_the_header_is_enough_once_the_scrapers_have_been_silent_for_five_minutes() -> None:
    scrapers = Scrapers()
    scrapers.read(A, True, 0, 0)
    scrapers.newborn([KEY], 1)
    scrapers.read(CURL, False, 1, SEEN_SECONDS)
    assert scrapers.ready(SEEN_SECONDS) == set()
    scrapers.read(CURL, False, 1, SEEN_SECONDS + 1)
    assert scrapers.ready(SEEN_SECONDS + 1) == {KEY}


def test_patience_ends_even_if_a_client_once_read_what_was_before_and_all_scrapers_have_left_since() -> None:
    scrapers = Scrapers()
    scrapers.read(CURL, False, 1, 0)
    scrapers.newborn([KEY], 5)
    scrapers.read(A, True, 5, 10)
    scrapers.read(B, True, 4, 11)
    assert scrapers.ready(11) == set()
    assert scrapers.ready(11 + SEEN_SECONDS + 1) == {KEY}


def test_an_older_page_that_ends_late_takes_nothing_back() -> None:
    scrapers = book(KEY, version=5)
    scrapers.read(A, True, 5, 0)
    scrapers.read(A, True, 4, 1)
    assert scrapers.ready(1) == {KEY}


def test_clients_behind_one_address_are_told_apart_by_their_user_agent() -> None:
    scrapers = Scrapers()
    scrapers.read((A[0], "vmagent"), True, 0, 0)
    scrapers.newborn([KEY], 1)
    scrapers.read(A, True, 1, 1)
    assert scrapers.ready(1) == set()


def test_what_was_announced_or_has_gone_is_forgotten() -> None:
    scrapers = book(KEY, OTHER)
    scrapers.read(A, True, 1, 0)
    scrapers.forget([KEY])
    assert scrapers.ready(0) == {OTHER}
    scrapers.forget_integration("acme", "int-1")
    assert scrapers.ready(0) == set()


def test_a_series_keeps_its_place_when_it_is_published_again() -> None:
    scrapers = book(KEY)
    scrapers.read(A, True, 1, 0)
    scrapers.newborn([KEY], 9)
    assert scrapers.ready(0) == {KEY}


def test_the_book_of_scrapers_is_bounded() -> None:
    scrapers = Scrapers()
    for number in range(CLIENTS_MAX + 50):
        scrapers.read((f"10.0.{number // 256}.{number % 256}", "x"), True, 0, 0)
    assert len(scrapers._seen) == CLIENTS_MAX


def test_scrapers_of_the_life_before_are_waited_for_and_what_they_read_then_counts_for_nothing() -> None:
    before = Scrapers()
    before.read(A, True, 7, 0)
    before.read(B, True, 7, 1)
    scrapers = book(KEY)
    scrapers.recall(before.active(1), 0)
    scrapers.read(A, True, 1, 1)
    assert scrapers.ready(1) == set()
    scrapers.read(B, True, 1, 3)
    assert scrapers.ready(3) == {KEY}


def test_a_scraper_of_the_life_before_that_does_not_come_back_is_waited_for_two_minutes() -> None:
    scrapers = book(KEY)
    scrapers.recall([A, B], 0)
    scrapers.read(A, True, 1, 10)
    assert scrapers.ready(9 + PATIENCE_SECONDS) == set()
    assert scrapers.ready(10 + PATIENCE_SECONDS) == {KEY}


def test_scrapers_that_have_gone_silent_and_other_clients_are_not_kept_for_the_next_life() -> None:
    scrapers = Scrapers()
    scrapers.read(A, True, 1, 0)
    scrapers.read(CURL, False, 1, 200)
    scrapers.read(B, True, 1, 200)
    assert scrapers.active(200) == [A, B]
    assert scrapers.active(SEEN_SECONDS + 1) == [B]
