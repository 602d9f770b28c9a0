"""One response of a server: `POST {address}/chat/completions`, attempt after attempt.

What may mend itself (a connection, an overloaded server, a reply that is none) is asked for again, later and later; the rest stops the
run at once. The key is taken from the environment and goes nowhere but into the header of requests to the address: no redirect is
followed, and no message repeats it.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from stages.sampling.address import KEY_VARIABLES, Address, api_key
from stages.sampling.completions import SHOWN_CHARACTERS, BadReplyError, Reply, read_body, read_reply
from stages.sampling.pacing import Limits, Pace, backoff, seconds_to_wait
from stages.seeds import derive_seed

_PASSING = frozenset({408, 409, 425, 429, *range(500, 600)})  # statuses that may mend themselves
_MOST_ERROR_BYTES = 2**20
_SHOWN_MODELS = 20
_KEPT = "the responses that came are kept"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """One response that is wanted."""

    problem_id: str
    sample: int
    seed: int  # of the response
    body: Mapping[str, Any]  # what is sent
    digest: str  # of the server, the response's place, and what is sent

    @property
    def title(self) -> str:
        """For people."""
        return f"problem {self.problem_id!r} (sample {self.sample})"


class _PassingError(Exception):
    """An attempt failed in a way that may mend itself; the server asks to wait."""

    def __init__(self, reason: str, *, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class Client:
    """Asks the model of an address. Of one event loop; `close` ends its connections."""

    def __init__(self, address: Address, limits: Limits) -> None:
        """Raises ValueError for a key that cannot be one; nothing is asked yet."""
        self._address, self._limits, self._key = address, limits, api_key()
        self._failure: ValueError | ConnectionError | None = None  # that stops the run
        self._pace = Pace(limits.requests_per_minute)
        self._free = asyncio.Semaphore(limits.concurrency)
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(limits.stall_seconds, connect=limits.connect_seconds, pool=None),
            limits=httpx.Limits(max_connections=limits.concurrency),
        )

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def ask(self, question: Question, counts: Counter[str]) -> Reply:
        """The response; `counts` are its `requests`. An attempt keeps its place among `Limits.concurrency` while it waits for the next.

        Raises:
            ValueError: the server refuses the key, the model or the request.
            ConnectionError: no response came in `Limits.max_attempts`, or the server asks for too long a wait.

        Once it raised, it raises the same for every other question.

        """
        async with self._free:
            for attempt in range(1, self._limits.max_attempts + 1):
                await self._pace.turn()
                if self._failure is not None:
                    raise self._failure
                counts["requests"] += 1
                try:
                    return await self._attempt(question)
                except _PassingError as error:
                    await self._wait(error, question, attempt)
                except ValueError as error:
                    self._failure = error
                    raise
        raise AssertionError  # the last attempt returned or raised

    async def _wait(self, error: _PassingError, question: Question, attempt: int) -> None:
        """Until the next attempt. Raises ConnectionError where there is none."""
        base, longest, reason = self._address.base, self._limits.longest_wait_seconds, self._said(str(error))
        if attempt == self._limits.max_attempts:
            self._failure = ConnectionError(
                f"{base} gave no response to {question.title} in {attempt} attempts; the last failed with: {reason}; {_KEPT}: "
                "see to the server and run again for the rest"
            )
            raise self._failure
        if error.wait_seconds > longest:
            self._failure = ConnectionError(
                f"{base} asks to wait {error.wait_seconds:.0f} s, longer than {longest:.0f}: {reason}; {_KEPT}: run again then for the rest"
            )
            raise self._failure
        self._pace.hold(error.wait_seconds)
        seconds = backoff(attempt, first=self._limits.backoff_seconds, seed=derive_seed(question.seed, attempt))
        later = max(seconds, error.wait_seconds)
        _LOG.warning("attempt %d at %s failed: %s; again in %.1f s", attempt, question.title, reason, later)
        await asyncio.sleep(seconds)

    async def _attempt(self, question: Question) -> Reply:
        """Raises _PassingError, and ValueError where the server refuses for good."""
        url = f"{self._address.base}/chat/completions"
        try:
            async with self._http.stream("POST", url, json=dict(question.body)) as response:
                if response.status_code == httpx.codes.OK:
                    return await read_reply(response, stall_seconds=self._limits.stall_seconds)
                text = (await read_body(response, most_bytes=_MOST_ERROR_BYTES)).decode("utf-8", "replace")
        except BadReplyError as error:
            raise _PassingError(str(error)) from error
        except httpx.RequestError as error:
            raise _PassingError(f"{type(error).__name__} {error}".strip()) from error
        if response.status_code in _PASSING:
            wait_seconds = seconds_to_wait(response.headers.get("retry-after", ""))
            raise _PassingError(f"status {response.status_code} {text}", wait_seconds=wait_seconds)
        raise await self._refusal(question, response, text)

    async def _refusal(self, question: Question, response: httpx.Response, text: str) -> ValueError:
        """Say why asking again would not help."""
        base, status = self._address.base, response.status_code
        if status in (401, 403):
            does = "does not take the key" if self._key else "wants a key"
            return ValueError(f"{base} {does} (status {status}); set {KEY_VARIABLES[0]} to one that it takes")
        if response.is_redirect:
            place = self._said(_place(response))
            return ValueError(f"{base} redirects to {place}, which is not followed; if you trust it, give that address")
        if status == httpx.codes.NOT_FOUND:
            return ValueError(f"{base} has no model {self._address.model!r} (status {status}); {await self._offer()}")
        return ValueError(f"{base} refuses {question.title} with status {status}, for good: {self._said(text)}")

    async def _offer(self) -> str:
        """What the server says that it has."""
        listing = f"{self._address.base}/models"
        try:
            async with self._http.stream("GET", listing) as response:
                listed = json.loads(await read_body(response, most_bytes=_MOST_ERROR_BYTES))
            names = sorted(str(model["id"]) for model in listed["data"])
        except (httpx.RequestError, BadReplyError, ValueError, RecursionError, KeyError, TypeError):
            return f"nor a list at {listing}: does the address end as it should, such as in /v1?"
        more = f" and {len(names) - _SHOWN_MODELS} more" if len(names) > _SHOWN_MODELS else ""
        return self._said(f"it offers {', '.join(names[:_SHOWN_MODELS]) or 'none'}{more}", most=10 * SHOWN_CHARACTERS)

    def _said(self, text: str, *, most: int = 2 * SHOWN_CHARACTERS) -> str:
        """A server's words for a message: in one line, not long, and without the key."""
        line = " ".join((text.replace(self._key, "***") if self._key else text).split())
        return line if len(line) <= most else f"{line[:most]} ..."


def _place(response: httpx.Response) -> str:
    """Where a redirect leads, without what may be secret."""
    try:
        url = response.url.join(response.headers["location"])
    except httpx.InvalidURL:
        return "nowhere"
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}".removesuffix("/chat/completions")
