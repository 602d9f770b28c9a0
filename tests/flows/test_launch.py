"""What joins a chain and its workers, without running one."""

import io
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from flows import terminal
from flows.console import plain_console
from flows.launch import Chain, _alone
from flows.serve import _remove_own
from flows.terminal import LiveDisplay, PlainDisplay, progress_display
from flows.worker_process import worker_environment
from stages.config import Runtime
from stages.errors import StoppedError
from stages.plan import plan_chain
from stages.recipe import load_recipe
from stages.records.artifact import Store


def job(tmp_path, **changes):
    events = tmp_path / "events.jsonl"
    events.touch()
    path = tmp_path / "job.json"
    document = {"module": "stages.report", "config": {"no": 1}, "inputs": {}, "runtime": {"threads": 1}, "ranks": 1}
    path.write_text(json.dumps({**document, "out": str(tmp_path), "events": str(events), **changes}))
    return path, events


@pytest.mark.parametrize("is_parent", [True, False])
def test_a_worker_whose_parent_died_before_it_began_does_nothing(tmp_path, is_parent):
    path, events = job(tmp_path, parent=os.getpid() if is_parent else 1)
    (tmp_path / "data").mkdir()  # a folder of the user's where the command runs is not taken for our package
    (tmp_path / "data" / "__init__.py").write_text("raise SystemExit(9)")
    done = subprocess.run(
        [sys.executable, "-m", "stages.worker", str(path)],
        cwd=tmp_path,
        env=worker_environment(Runtime()),
        capture_output=True,
    )
    assert (done.returncode, bool(events.read_text())) == ((2, True) if is_parent else (1, False))


def test_only_ones_own_address_is_removed(tmp_path):
    path = tmp_path / "up.url"
    path.write_text("another's")
    _remove_own(path, "mine")
    assert path.exists()
    _remove_own(path, "another's")
    _remove_own(path, "another's")
    assert not path.exists()


def test_progress_without_a_terminal_is_told_at_first_at_last_and_seldom_between(capsys, monkeypatch):
    display = PlainDisplay()
    for done in (1, 2, 3, 4):
        display.progress("sft", done=done, total=4, unit="steps", detail="")
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["1/4", "4/4"]
    display.outlook("about 2 min left of the chain")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0.0)
    display.outlook("about 2 min left of the chain")
    assert "chain" in capsys.readouterr().err


def chain_in(home, display):
    specs = plan_chain(load_recipe("smoke").recipe, until="curation")
    return specs[0], Chain(
        specs, store=Store(home), tracker=None, run_id="", runtime=Runtime(), display=display, prefect_run=None
    )


def test_who_waits_for_another_run_says_so_and_can_be_stopped(tmp_path, capsys):
    spec, chain = chain_in(tmp_path, PlainDisplay())
    ends = []

    def build():
        try:
            with _alone(spec, chain=chain):
                ends.append("built")
        except StoppedError:
            ends.append("stopped")

    for stops in (False, True):
        with chain.store.lock(spec.stage, spec.fingerprint):
            waiter = threading.Thread(target=build)
            waiter.start()
            while "waiting for another run" not in (said := capsys.readouterr().err):
                time.sleep(0.01)
            if stops:
                chain.is_stopped.set()
                waiter.join()
        waiter.join()
        assert said.count("waiting for another run") == 1
        assert ("waited" in capsys.readouterr().err) is not stops
    assert ends == ["built", "stopped"]


def test_the_last_line_on_a_terminal_is_what_is_left_and_a_dumb_one_gets_lines(monkeypatch):
    console = plain_console()
    console.file = io.StringIO()
    console._force_terminal = True
    with LiveDisplay(console) as display:
        display.progress("sft", done=1, total=2, unit="steps", detail="")
        display.outlook("about 2 min left of the chain")
    assert console.file.getvalue().rindex("about 2 min left") > console.file.getvalue().rindex("1/2 steps")
    monkeypatch.setenv("FORCE_COLOR", "1")  # which Rich takes for a terminal
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress_display(), PlainDisplay)
