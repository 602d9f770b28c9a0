"""Texts that are not ours are shown and never obeyed, whatever way they take to the terminal."""

import io

import pytest
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from flows.console import assembled, plain_console, shown
from flows.tables import rows_table
from flows.terminal import LiveDisplay, PlainDisplay, _rate
from stages.records.artifact import Store

HOSTILE = "\x1b[2K\x1b[1A\x1b[2Kx"
SHOWN = r"\x1b[2K\x1b[1A\x1b[2Kx"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HOSTILE, SHOWN),
        ("\x00\x07\x08\r\x0b\x7f", r"\x00\x07\x08\r\x0b\x7f"),
        ("\x9b2K", r"\x9b2K"),
        ("a\u202eb\u2066c\u2069\u200e\u200f", r"a\u202eb\u2066c\u2069\u200e\u200f"),
        ("\udcff", r"\udcff"),
        ("a\tb\n  \\ é 和 :smile: [red] \\x1b", "a\tb\n  \\ é 和 :smile: [red] \\x1b"),
    ],
)
def test_what_a_terminal_obeys_is_shown_as_an_escape_and_the_rest_stays(text, told):
    assert shown(text) == told
    assert shown(told) == told


def printed(*objects: object, **options: object) -> str:
    console = plain_console()
    console.file = io.StringIO()
    console.print(*objects, **options)
    return console.file.getvalue()


def table(cell: str | Text) -> Table:
    made = Table("column", title=cell)
    made.add_row(cell)
    return made


@pytest.mark.parametrize(
    "renderable",
    [
        HOSTILE,
        Text(HOSTILE),
        assembled((HOSTILE, "bold"), " "),
        Tree(HOSTILE),
        Panel(HOSTILE, title=HOSTILE),
        table(HOSTILE),
        table(Text(HOSTILE)),
        rows_table([{HOSTILE: HOSTILE}], title=HOSTILE),
        ValueError(HOSTILE),
    ],
    ids=lambda renderable: type(renderable).__name__,
)
def test_every_kind_of_output_shows_them(renderable):
    said = printed(renderable)
    assert "\x1b" not in said and r"\x1b[2K" in said


def test_a_table_leaves_room_for_escapes():
    lines = printed(table(HOSTILE)).splitlines()
    assert len({len(line) for line in lines[1:]}) == 1


def test_our_own_colours_still_work(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    said = printed(assembled((f"{HOSTILE}\r", "red")), highlight=False)
    assert said == f"\x1b[31m{SHOWN}\\r\x1b[0m\n"


def test_progress_shows_them(capsys):
    with PlainDisplay() as display:
        display.message(HOSTILE, HOSTILE)
    console = plain_console()
    console.file = io.StringIO()
    console._force_terminal = True
    with LiveDisplay(console) as live:
        live.progress("sft", done=1, total=2, unit="steps", detail="\x1b]0;title\x07")
        live.message("sft", HOSTILE)
    said = capsys.readouterr().err + console.file.getvalue()
    assert said.count(SHOWN) == 3 and r"\x1b]0;t" in said
    assert "\x1b[1A\x1b[2Kx" not in said and "\x1b]0;" not in said


def test_a_result_with_a_hostile_file_name_is_verified_in_plain_sight(ring):
    sealed(Store(ring.home), DOCUMENT | {"recipe": HOSTILE})
    folder = ring.home / "artifacts" / "sft" / IDENTITY
    (folder / HOSTILE).touch()
    (folder / "name-\udcff").touch()
    said = ring("verify", code=1).stdout
    assert "BROKEN sft" in said and SHOWN in said and r"name-\udcff" in said and "\x1b" not in said
    assert r"\x1b[2K" in ring("ls").stdout


IDENTITY = "0" * 32
DOCUMENT = {
    "payload": {"stage": "sft", "arm": None}, "inputs": {}, "metrics": {}, "timings": {}, "notes": [], "code": {}, "status": "ran",
    "seconds": 1.0, "made_at": "2026-01-01", "mlflow_run_id": "",
}  # fmt: skip


def sealed(store: Store, document: dict) -> None:
    (store.prepare("sft", IDENTITY, afresh=True) / "a file").touch()
    store.seal(stage="sft", identity=IDENTITY, document=document)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", HOSTILE],
        ["show", "smoke", "--set", f"{HOSTILE}=1"],
        ["lineage", HOSTILE],
        ["data", "diff", HOSTILE, "0"],
        [HOSTILE],
        ["run", "smoke", f"--{HOSTILE}"],
    ],
)
def test_messages_of_mistakes_show_them(ring, arguments):
    done = ring(*arguments, code=2)
    said = done.stdout + done.stderr
    assert "\x1b" not in said and r"\x1b[2K" in said


def test_lines_that_cannot_be_judged_show_them(ring):
    ring.home.parent.mkdir(exist_ok=True)
    (ring.home.parent / f"{HOSTILE}.jsonl").write_text("{\n", encoding="utf-8")
    done = ring("judge", "--domain", "math", f"{HOSTILE}.jsonl", code=1)
    assert "\x1b" not in done.stderr and SHOWN in done.stderr


@pytest.mark.parametrize(
    ("rate", "text"), [(0.04, "0.0"), (9.46, "9.5"), (99.94, "99.9"), (100.0, "100"), (44049.2, "44,049")]
)
def test_a_rate_of_a_hundred_or_more_has_no_decimals(rate, text):
    assert _rate(rate) == text
