"""The page in a real browser: it says nothing on the console, fits a phone, goes dark, and its links lead somewhere.

Chromium prints the page as it stands after its scripts have run; the page has none, the test adds one that measures. `RING_AXE_JS` is
the path of an axe.min.js (npm package axe-core), with which accessibility is checked, too.
"""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from data.schema import PROBLEM_SCHEMA, SAMPLE_SCHEMA
from stages.records.run_ledger import RunLedger
from stages.report.page import MAX_BYTES, render
from stages.report.tries import known_tries, with_tries
from tests.stages.report.test_verdicts import answered, problem

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = os.environ.get("RING_AXE_JS")
LONG = "a" * 200
MEASURE = """
const measured = {
  width: document.documentElement.scrollWidth,
  window: innerWidth,
  ground: getComputedStyle(document.body).backgroundColor,
  charts: [...document.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect()).map(box => [box.width, box.height]),
  broken: [...document.querySelectorAll("a[href^='#']")].filter(a => !document.getElementById(a.hash.slice(1))).map(a => a.hash),
};
const done = violations => {
  const note = document.createElement("pre");
  note.id = "measured";
  note.textContent = JSON.stringify({...measured, violations});
  document.body.appendChild(note);
};
typeof axe === "undefined" ? done([]) : axe.run().then(found => done(found.violations.map(one => one.id + " " + one.impact)));
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")


@pytest.fixture
def page(made, response) -> str:
    """A page with every kind of part, and words that are too long for a line."""
    rows = [{"value": 0.5, "low": 0.4, "high": 0.6, "n": 2}]
    result = {f"{model}/all/{metric}": rows[0] for model in ("sft", "a") for metric in ("greedy", "pass@1")}
    table = [
        {"model": name.split("/")[0], "group": "all", "metric": name.rsplit("/", 1)[1], **entry}
        for name, entry in result.items()
    ]
    difference = {"difference": 0.1, "low": 0.05, "high": 0.15, "n": 2, "excludes_zero": True, "p": 0.01}
    pair = {"model": "a", "against": "sft", "group": "all", "metric": "greedy", **difference}
    tables = {
        "results": table,
        "comparisons": [{**pair, "smallest_difference": 0.1, "unequal": 1}],
        "samples": [
            {"problem": "p", "prompt": LONG, "model": "sft", "status": "wrong", "extracted": LONG, "response": LONG}
        ],
    }
    schema = SAMPLE_SCHEMA.append(pa.field("model", pa.string()))
    samples = pa.Table.from_pylist([answered("p", -1), answered("p", -1, "correct", "a")], schema=schema)
    problems = {
        name: pa.Table.from_pylist([problem("p")], schema=PROBLEM_SCHEMA) for name in ("heldout.parquet", "rl.parquet")
    }
    funnel = [{"step": "sources", "kept": 2, "dropped": 1, "main reasons": LONG}]
    steps = [{"step": step, "reward/mean": step / 10, "budget/tokens_used": 9.0} for step in range(1, 9)]
    phases = [{"phase": "all", "steps": 8, "tokens_trained": 72, "last_reward": 0.5}]
    manifests = {
        "curation": made(
            "curation", tables={"funnel": funnel}, files=problems, made_at="2026-01-02T03:04:05Z", recipe="small"
        ),
        "rl/a": made("rl", "a", tables={"phases": phases}, steps=steps, rollouts={1: [response(response=LONG)]}),
        "evaluation": made(
            "evaluation",
            tables=tables,
            files={"samples.parquet": samples},
            values={"results.json": result},
            config={"confidence": 0.95},
        ),
    }
    return render("Ring, in the open", manifests)


def measured(page: str, folder: Path, *, width: int, dark: bool = False) -> tuple[dict, list[str]]:
    """What the browser measures, and the lines that it wrote on its console."""
    axe = f"<script>{Path(AXE).read_text(encoding='utf-8')}</script>" if AXE else ""
    path = folder / "page.html"
    path.write_text(page.replace("</body>", f"{axe}<script>{MEASURE}</script></body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=60000"]
    options += [f"--window-size={width},900", f"--user-data-dir={folder / 'profile'}"]
    options += ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [str(CHROMIUM), *options, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(html.unescape(found.group(1))), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [500, 1200])
def test_the_page_fits_its_window_draws_its_plots_and_leads_nowhere_wrong(page, tmp_path, width) -> None:
    found, console = measured(page, tmp_path, width=width)
    assert console == []
    assert found["width"] <= found["window"]
    assert len(found["charts"]) >= 6
    assert all(0 < box_width <= found["window"] and box_height > 0 for box_width, box_height in found["charts"])
    assert found["broken"] == []
    assert found["violations"] == []


def test_the_page_goes_dark_where_the_reader_wants_it(page, tmp_path) -> None:
    light, _ = measured(page, tmp_path, width=1200)
    dark, _ = measured(page, tmp_path, width=1200, dark=True)
    assert light["ground"] == "rgb(255, 255, 255)"
    assert dark["ground"] == "rgb(20, 24, 29)"
    assert dark["violations"] == []


def test_every_score_and_difference_of_a_table_leads_to_its_rows(page) -> None:
    """Tables are those of the evaluation; the others name where their rows lie."""
    part = page[page.index('<h2 id="evaluation">') : page.index('<h2 id="rows">')]
    (results, comparisons) = (
        re.search(f"<summary>{name} .*?</table>", part, re.DOTALL) for name in ("results", "comparisons")
    )
    assert results and len(re.findall('<td class="number"><a href="#rows">0.5</a></td>', results[0])) == 4
    assert comparisons and '<td class="number"><a href="#rows">0.1</a></td>' in comparisons[0]
    assert all(f'<a href="#rows">{score}' in page for score in (".500 [.400, .600]",))
    assert "Not here are the rows behind" in page and "have no rows" in page


def test_the_published_page_with_its_runs_fits_a_phone_and_goes_dark(page, tmp_path) -> None:
    ledger = RunLedger(tmp_path / "home")
    for run in ("one", "two"):
        ledger.start(run, recipe="a-recipe-of-a-long-name", fingerprints={}, commit="ab" * 20, dirty=True)
    published = with_tries(page, known_tries(ledger, "two"))
    assert "2 of exactly this chain" in published
    found, console = measured(published, tmp_path, width=500, dark=True)
    assert (console, found["broken"], found["violations"]) == ([], [], [])
    assert found["width"] <= found["window"]
    assert len(published.encode()) < MAX_BYTES


def test_the_page_asks_for_nothing_outside_itself(page) -> None:
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page)
    assert "<script" not in page
    assert "url(" not in page
