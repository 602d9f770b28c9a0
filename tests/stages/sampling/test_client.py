"""What a server refuses for good stops the run at once; what may mend itself is asked for again, later and later. The key stays secret."""

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate

import pytest

from stages.sampling.address import Address
from stages.sampling.client import Client, Question
from stages.sampling.completions import Reply
from stages.sampling.pacing import Limits
from tests.stages.sampling import serving
from tests.stages.sampling.serving import Script, says, served

KEY = "sk-of-nobody-1234"
QUICK = Limits(concurrency=1, max_attempts=3, backoff_seconds=0.01, stall_seconds=5.0)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RING_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RING_API_KEY", KEY)
    return KEY


def question(number: int = 0) -> Question:
    body = {"messages": [{"role": "user", "content": f"q{number}"}], "seed": number}
    return Question(f"q{number}", 2, number, body, str(number))


def ask(script: Script, *, count: int = 1, limits: Limits = QUICK) -> list[Reply | BaseException]:
    async def all_of_them() -> list[Reply | BaseException]:
        client = Client(Address.parse(script.address), limits)
        try:
            counts: Counter[str] = Counter()
            asked = [client.ask(question(number), counts) for number in range(count)]
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await client.close()

    return asyncio.run(all_of_them())


def stops(script: Script, *, count: int = 3, limits: Limits = QUICK) -> BaseException:
    """The one error with which all questions end."""
    with served(script):
        errors = ask(script, count=count, limits=limits)
    assert all(error is errors[0] for error in errors)
    assert isinstance(errors[0], BaseException)
    return errors[0]


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_stops_at_once_and_is_not_told(
    key: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    script = Script(last=says(status, f"Incorrect key: {KEY}".encode()))
    error = stops(script)
    assert isinstance(error, ValueError)
    assert (
        str(error) == f"{script.url}/v1 does not take the key (status {status}); set RING_API_KEY to one that it takes"
    )
    assert len(script.asked) == 1
    assert script.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text


def test_a_server_that_wants_a_key_says_so() -> None:
    script = Script(last=says(401, b""))
    assert "wants a key (status 401); set RING_API_KEY" in str(stops(script))
    assert "Authorization" not in script.headers[0]


def test_an_unknown_model_stops_at_once_with_what_the_server_offers() -> None:
    script = Script(last=says(404, {"error": "no such model"}), models=("big", "a b"))
    error = stops(script)
    assert isinstance(error, ValueError)
    assert str(error) == f"{script.url}/v1 has no model 'tiny' (status 404); it offers a b, big"
    assert len(script.asked) == 1 and script.listed == ["/v1/models"]


def test_a_wrong_path_is_told_from_a_wrong_model() -> None:
    script = Script(last=says(404, b"nothing here"), listing=b"nothing here")
    assert str(stops(script)).endswith(
        f"nor a list at {script.url}/v1/models: does the address end as it should, such as in /v1?"
    )


def test_no_redirect_is_followed(key: str) -> None:
    with served(Script()) as other:
        to = f"{other.url.replace('http://', 'http://u:secret@')}/v1/chat/completions?token=secret"
        script = Script(last=says(307, b"", Location=to))
        error = stops(script)
        assert other.asked == [] and other.headers == [] and len(script.asked) == 1
        assert f"redirects to {other.url}/v1, which is not followed" in str(error) and "secret" not in str(error)


def test_a_request_that_is_refused_stops_at_once_with_the_servers_words(key: str) -> None:
    script = Script(last=says(400, f"too\n long, {KEY} ".encode() + b"x" * 10_000))
    error = stops(script)
    assert isinstance(error, ValueError)
    assert f"{script.url}/v1 refuses problem 'q0' (sample 2) with status 400, for good: too long, *** xxx" in str(error)
    assert len(str(error)) < 800 and len(script.asked) == 1


def test_the_last_attempt_ends_the_run_with_the_reason(key: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    script = Script(last=says(500, f"I am broken, {KEY}".encode()))
    error = stops(script)
    assert isinstance(error, ConnectionError)
    assert str(error) == (
        f"{script.url}/v1 gave no response to problem 'q0' (sample 2) in 3 attempts; the last failed with: status 500 I am broken, ***; "
        "the responses that came are kept: see to the server and run again for the rest"
    )
    assert len(script.asked) == 3
    assert "attempt 2 at problem 'q0' (sample 2) failed: status 500" in caplog.text and KEY not in caplog.text


def test_an_address_where_nobody_listens_is_told() -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        script = Script(url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        (error,) = ask(script)
    assert isinstance(error, ConnectionError) and "in 3 attempts; the last failed with: ConnectError" in str(error)


@pytest.mark.parametrize("asks_for", [lambda: "1", lambda: formatdate(time.time() + 6, usegmt=True)])
def test_a_server_that_asks_to_wait_is_waited_for_by_all(asks_for: Callable[[], str]) -> None:
    script = Script({"q0": [says(429, b"", Retry_After=asks_for())]})
    with served(script):
        replies = ask(script, count=2, limits=Limits(concurrency=2, max_attempts=2, backoff_seconds=0.01))
    assert all(isinstance(reply, Reply) for reply in replies)
    assert script.attempts == {("q0", 0): 2, ("q1", 1): 1}
    assert 0.9 <= script.times[-1] - script.times[0] < 10.0


def test_nobody_waits_for_hours() -> None:
    script = Script(last=says(429, b"no more today", Retry_After="7200"))
    error = stops(script)
    assert isinstance(error, ConnectionError) and len(script.asked) == 1
    assert "asks to wait 7200 s, longer than 900: status 429 no more today" in str(error)


def test_no_more_requests_are_under_way_than_allowed() -> None:
    script = Script(last=serving.after(0.1, serving.whole))
    with served(script):
        ask(script, count=6, limits=Limits(concurrency=2))
    assert len(script.times) == 6
    assert all(later - earlier > 0.08 for earlier, later in zip(script.times, script.times[2:], strict=False))


def test_no_more_requests_start_in_a_minute_than_allowed() -> None:
    script = Script()
    with served(script):
        ask(script, count=4, limits=Limits(concurrency=4, requests_per_minute=300.0))
    assert script.times[-1] - script.times[0] > 3 * 0.2 - 0.05


@pytest.mark.parametrize(("name", "other"), [("RING_API_KEY", "OPENAI_API_KEY"), ("OPENAI_API_KEY", None)])
def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, other: str | None) -> None:
    monkeypatch.setenv(name, f" {KEY}\n")
    if other:
        monkeypatch.setenv(other, "another")
    with served(Script()) as script:
        ask(script)
    assert script.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_a_key_that_no_header_can_hold_is_refused_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nX: y")
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds characters") as caught:
        Client(Address.parse("http://127.0.0.1:1/v1#m"), QUICK)
    assert KEY not in str(caught.value)
