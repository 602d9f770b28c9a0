"""`ring chat --serve`: what it says is what the model says, and whatever is sent to it is answered in the words of OpenAI's API."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from data.domains import DOMAINS
from data.schema import Problem
from flows.endpoint.app import MOST_BYTES
from ring_model.checkpoint import load_model, save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.generation import generate
from ring_model.modelling import BailingMoe, initialise
from ring_model.tokenizer import Tokenizer, build_word_tokenizer
from stages.sampling.asking import respond

WORDS = "solve compute 2 + 3 = x 4 5 6 7 8 the so"
POSITIONS = 512
PROBLEM = "solve 2 + 3 = x"


@dataclass(frozen=True)
class Served:
    folder: Path
    url: str
    name: str
    process: subprocess.Popen

    def post(self, path: str = "chat/completions", **body) -> httpx.Response:
        return httpx.post(f"{self.url}/{path}", json={"model": self.name, **body}, timeout=60)

    def chat(self, text: str = PROBLEM, **body) -> dict:
        done = self.post(messages=[{"role": "user", "content": text}], **{"temperature": 0, "max_tokens": 30, **body})
        assert done.status_code == 200, done.text
        return done.json()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model with random weights, which says many words and now and then closes its thinking."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    tokenizer = build_word_tokenizer([WORDS, *(domain.prompt_suffix for domain in DOMAINS.values())])
    config = BailingMoeConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_experts=4, num_experts_per_tok=2, num_shared_experts=1, moe_intermediate_size=8, eos_token_id=0, pad_token_id=0,
        max_position_embeddings=POSITIONS, initializer_range=0.4,
    )  # fmt: skip
    save_model(initialise(BailingMoe(config), seed=5), folder, end_ids=tokenizer.end_ids)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def served(folder):
    command = [sys.executable, "-m", "flows.cli", "chat", str(folder), "--serve", "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_hears_interrupts
    )
    base, _, name = process.stdout.readline().strip().partition("#")
    yield Served(folder, base, name, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "Traceback" not in said


def _hears_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def events(response: httpx.Response) -> list:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def joined(choice: dict) -> str:
    """As `ring evaluate` puts thinking and answer together."""
    message = choice["message"]
    return (
        f"{message['reasoning_content'] or ''}</think>{message['content']}"
        if message["content"]
        else message["reasoning_content"]
    )


# ---------------------------------------------------------------- what it says


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_greedy_answer_is_that_of_the_folder(served, domain):
    problem = Problem("p", domain, "eval", PROBLEM, "")
    recorded = respond(served.folder, problem, max_new_tokens=30)
    said = served.chat(PROBLEM + DOMAINS[domain].prompt_suffix)
    assert joined(said["choices"][0]) == recorded.response
    assert said["choices"][0]["finish_reason"] == ("stop" if recorded.finished else "length")
    assert said["usage"]["completion_tokens"] == recorded.tokens
    assert said == {**served.chat(domain=domain), "id": said["id"], "created": said["created"]}


def test_a_seed_draws_the_samples_of_generate(served):
    tokenizer = Tokenizer.from_folder(served.folder)
    prompt = tokenizer.render_prompt(PROBLEM)
    (drawn,) = generate(
        load_model(served.folder), [prompt], seeds=[7], max_new_tokens=30, temperature=0.9, top_p=0.8, eos_id=tokenizer.end_ids
    )  # fmt: skip
    said = served.chat(temperature=0.9, top_p=0.8, seed=7, n=3)
    assert joined(said["choices"][0]) == tokenizer.decode([i for i in drawn.token_ids if i not in tokenizer.end_ids])
    assert [choice["index"] for choice in said["choices"]] == [0, 1, 2]
    assert len({joined(choice) for choice in said["choices"]}) == 3
    again = served.chat(temperature=0.9, top_p=0.8, seed=7, n=3)
    assert again["choices"] == said["choices"]


def test_a_stream_says_what_the_whole_says(served):
    whole = served.chat(logprobs=True, top_logprobs=2)
    parts = events(
        served.post(
            messages=[{"role": "user", "content": PROBLEM}], temperature=0, max_tokens=30, logprobs=True, top_logprobs=2,
            stream=True, stream_options={"include_usage": True},
        )
    )  # fmt: skip
    deltas = [part["choices"][0]["delta"] for part in parts if part["choices"]]
    message = whole["choices"][0]["message"]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == (message["reasoning_content"] or "")
    assert [part["choices"][0]["finish_reason"] for part in parts if part["choices"]][-1] == whole["choices"][0][
        "finish_reason"
    ]
    rows = [
        row
        for part in parts
        if part["choices"]
        for row in (part["choices"][0].get("logprobs") or {"content": []})["content"]
    ]
    assert rows == whole["choices"][0]["logprobs"]["content"]
    assert len(rows) == whole["usage"]["completion_tokens"]
    assert all(row["top_logprobs"][0]["token"] == row["token"] and len(row["top_logprobs"]) == 2 for row in rows)
    assert parts[-1]["choices"] == []
    assert parts[-1]["usage"] == whole["usage"]
    assert len({part["id"] for part in parts}) == 1


def test_a_talk_is_what_the_template_makes_of_it(served):
    turns = [
        {"role": "developer", "content": "so"},
        {"role": "user", "content": [{"type": "text", "text": "solve "}, {"type": "text", "text": "2"}]},
        {"role": "assistant", "content": " 4", "reasoning_content": "2 + 2 ", "refusal": None},
        {"role": "user", "content": "the 5"},
    ]
    tokenizer = Tokenizer.from_folder(served.folder)
    ids = tokenizer.render_talk(
        [
            {"role": "system", "content": "so"},
            {"role": "user", "content": "solve 2"},
            {"role": "assistant", "content": "<think>2 + 2 </think> 4"},
            {"role": "user", "content": "the 5"},
        ]
    )
    by_talk = served.post(messages=turns, temperature=0, max_tokens=12).json()
    by_ids = served.post("completions", prompt=ids, temperature=0, max_tokens=12).json()
    assert by_talk["usage"] == by_ids["usage"]
    assert joined(by_talk["choices"][0]).split() == by_ids["choices"][0]["text"].split()


def test_completions_go_on_with_a_text_and_tell_their_tokens(served):
    body = {"prompt": ["solve 2 +", "the 5"], "n": 2, "temperature": 0, "max_tokens": 6, "logprobs": 2}
    whole = served.post("completions", **body).json()
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    first, second, third, _ = whole["choices"]
    assert first["text"] == second["text"] != third["text"]
    told = first["logprobs"]
    assert len(told["tokens"]) == len(told["token_logprobs"]) == len(told["top_logprobs"]) == len(told["text_offset"])
    assert told["tokens"][0] == next(iter(told["top_logprobs"][0]))
    assert whole["usage"]["prompt_tokens"] == 5
    parts = events(served.post("completions", stream=True, **body))
    texts = [
        "".join(part["choices"][0]["text"] for part in parts if part["choices"][0]["index"] == i) for i in range(4)
    ]
    assert texts == [choice["text"] for choice in whole["choices"]]


def test_a_stop_text_ends_the_answer_before_it(served):
    text = served.post("completions", prompt="solve 2 +", temperature=0, max_tokens=12).json()["choices"][0]["text"]
    stop = text.split()[3]
    for given in (stop, ["never", stop]):
        cut = served.post("completions", prompt="solve 2 +", temperature=0, max_tokens=12, stop=given).json()[
            "choices"
        ][0]
        assert cut["text"] == text[: text.index(stop)]
        assert cut["finish_reason"] == "stop"


def test_without_a_limit_a_response_has_the_room_that_is_left(served):
    said = served.post(messages=[{"role": "user", "content": "8"}], temperature=0).json()
    usage = said["usage"]
    assert said["choices"][0]["finish_reason"] == "stop" or usage["total_tokens"] == POSITIONS


def test_models_are_listed(served):
    listed = httpx.get(f"{served.url}/models").json()
    assert [one["id"] for one in listed["data"]] == ["tiny"]
    assert httpx.get(f"{served.url}/models/tiny").json() == listed["data"][0]


# ---------------------------------------------------------------- what it refuses


USER = [{"role": "user", "content": "8"}]


@pytest.mark.parametrize(
    ("path", "body", "status", "said", "param"),
    [
        ("chat/completions", {"messages": USER, "model": "gpt"}, 404, "no model 'gpt' here, but 'tiny'", "model"),
        ("chat/completions", {}, 400, "messages: Field required", "messages"),
        ("chat/completions", {"messages": []}, 400, "at least 1 item", "messages"),
        ("chat/completions", {"messages": [{"role": "tool", "content": "a"}]}, 400, "messages.0.role", "messages.0.role"),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url", "text": ""}]}]}, 400, "'text'", None),
        ("chat/completions", {"messages": USER, "temperature": -1}, 400, "temperature: ", "temperature"),
        ("chat/completions", {"messages": USER, "temperature": "hot"}, 400, "temperature: ", "temperature"),
        ("chat/completions", {"messages": USER, "n": 129}, 400, "n: ", "n"),
        ("chat/completions", {"messages": USER, "max_tokens": 0}, 400, "max_tokens: ", "max_tokens"),
        ("chat/completions", {"messages": USER, "seed": 2**64}, 400, "seed: ", "seed"),
        ("chat/completions", {"messages": USER, "stop": ["a"] * 5}, 400, "at most 4 texts", "stop"),
        ("chat/completions", {"messages": USER, "stop": ""}, 400, "none of them empty", "stop"),
        ("chat/completions", {"messages": USER, "domain": "history"}, 400, "no domain 'history'", None),
        ("chat/completions", {"messages": USER, "frequency_penalty": 0.5}, 400, "frequency_penalty is not supported", "frequency_penalty"),
        ("chat/completions", {"messages": USER, "tools": [{}]}, 400, "tools is not supported", "tools"),
        ("chat/completions", {"messages": USER, "max_token": 5}, 400, "max_token is no field", "max_token"),
        ("chat/completions", {"messages": [{"role": "user", "content": "8 " * 600}]}, 400, "the prompt has 60", None),
        ("completions", {"prompt": ""}, 400, "the prompt has no tokens", "prompt"),
        ("completions", {"prompt": []}, 400, "the prompt has no tokens", "prompt"),
        ("completions", {"prompt": [99_999]}, 400, "99999 is no id", "prompt"),
        ("completions", {"prompt": ["8"] * 65, "n": 2}, 400, "at most 128 responses", "n"),
        ("embeddings", {"input": "8"}, 404, "no such path", None),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_in_the_words_of_the_api(served, path, body, status, said, param):
    done = served.post(path, **body)
    error = done.json()["error"]
    assert (done.status_code, error["type"]) == (status, "invalid_request_error")
    assert said in error["message"]
    assert param is None or error["param"] == param


def test_what_asks_for_nothing_is_taken(served):
    extra = {
        "frequency_penalty": 0,
        "tools": [],
        "user": "me",
        "logit_bias": None,
        "response_format": {"type": "text"},
        "n": None,
    }
    assert served.chat(**extra)["choices"] == served.chat()["choices"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b'{"model": "\\ud800"}', b"[" * 100_000, b'{"model": NaN}']
)
def test_a_body_that_is_no_request_is_told(served, body):
    done = httpx.post(f"{served.url}/chat/completions", content=body, headers={"content-type": "application/json"})
    assert done.status_code == 400
    assert done.json()["error"]["message"]


def test_a_body_that_is_too_large_or_of_another_type_is_refused(served):
    url, headers = f"{served.url}/chat/completions", {"content-type": "application/json"}
    large = httpx.post(url, content=b" " * (MOST_BYTES + 1), headers=headers)
    assert (large.status_code, f"{MOST_BYTES:,} bytes" in large.json()["error"]["message"]) == (413, True)
    form = httpx.post(url, data={"model": "tiny"})
    assert (form.status_code, "application/json" in form.json()["error"]["message"]) == (415, True)
    assert httpx.get(url).status_code == 405


def test_a_page_of_another_host_cannot_use_it(served):
    done = httpx.get(f"{served.url}/models", headers={"host": "evil.example"})
    assert done.status_code == 400


def test_it_listens_on_loopback_alone(served):
    port = int(served.url.rsplit(":", 1)[1].partition("/")[0])
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
    assert [place for place in listening if place.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


def test_a_port_that_is_taken_is_told(served):
    port = served.url.rsplit(":", 1)[1].partition("/")[0]
    command = [sys.executable, "-m", "flows.cli", "chat", str(served.folder), "--serve", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--port 0 takes a free one" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- one at a time


def test_requests_that_come_together_are_all_answered_alike(served):
    alone, found = served.chat()["choices"], []
    threads = [threading.Thread(target=lambda: found.append(served.chat()["choices"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 8


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_holds_nobody_up(served, stream):
    port = int(served.url.rsplit(":", 1)[1].partition("/")[0])
    body = json.dumps(
        {"model": "tiny", "prompt": "8", "max_tokens": 60, "n": 64, "stream": stream, "temperature": 3}
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    started = time.monotonic()
    whole = served.post("completions", prompt="8", max_tokens=60, n=4, temperature=3, seed=1)
    of_four = time.monotonic() - started
    assert whole.status_code == 200
    with socket.create_connection(("127.0.0.1", port)) as gone:
        gone.sendall(head.encode() + body)
        time.sleep(0.3)
    started = time.monotonic()
    served.chat(max_tokens=1)
    assert time.monotonic() - started < 4 * of_four  # 64 would take 16 times as long
