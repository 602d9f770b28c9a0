"""The environment is the user's: what is set around the command is used, does no harm, or is one message with what to do."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flows import environment
from flows.environment import bypass_proxies
from tests.flows.conftest import ROOT, Ring

NOWHERE = "http://192.0.2.1:3128"  # an address that never answers


# ---------------------------------------------------------------- proxies


def test_loopback_is_kept_from_proxies_and_the_users_own_exceptions_stay(monkeypatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "example.org, 10.0.0.0/8")
    bypass_proxies(*environment.LOOPBACK)
    bypass_proxies(*environment.LOOPBACK)
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "example.org,10.0.0.0/8,localhost,127.0.0.1,::1"
    monkeypatch.setenv("no_proxy", "*")
    bypass_proxies("127.0.0.1")
    assert os.environ["NO_PROXY"] == "*"


# ---------------------------------------------------------------- one message, at once


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, "PREFECT_API_URL=http://127.0.0.1:9/api: no Prefect server"),
        ({"PREFECT_API_URL": "127.0.0.1:9", "http_proxy": NOWHERE}, "unset the variable"),
        ({"PREFECT_PROFILE": "nowhere"}, "no such profile"),
        ({"PREFECT_PROFILE": "mine"}, "http://127.0.0.1:9/api (profile mine)"),
        ({"all_proxy": "socks5://127.0.0.1:9"}, "all_proxy=socks5://127.0.0.1:9"),
        ({"SSL_CERT_FILE": "/nowhere.pem"}, "SSL_CERT_FILE=/nowhere.pem"),
        ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "HTTP_PROXY": NOWHERE}, "no server answers"),
        ({"RING_HOME": "line\nbreak"}, "RING_HOME"),
        ({"RING_HOME": "/tmp/" + 5 * ("x" * 99 + "/")}, "bytes"),
        ({"RING_HOME": "~no-such-user/x"}, "RING_HOME"),
        ({"RING_HOME": "/proc/version"}, "RING_HOME"),
        ({"RING_DOMAINS": "nowhere.py"}, "RING_DOMAINS: nowhere.py: no such Python file"),
    ],
)
def test_what_cannot_be_used_is_one_message_and_code_two(ring, variables, expected) -> None:
    ring.home.mkdir(parents=True)
    profiles = ring.home.parent / "profiles.toml"
    profiles.write_text('[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n', encoding="utf-8")
    begun = time.monotonic()
    done = ring("run", "smoke", code=2, env={"PREFECT_PROFILES_PATH": str(profiles), **variables})
    assert expected in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 3
    assert time.monotonic() - begun < 60  # 4 s alone; MLflow and Prefect would try for minutes
    assert not list(ring.home.glob("*"))


def test_a_database_for_prefect_that_does_not_answer_is_named(ring) -> None:
    url = "postgresql+asyncpg://u:hidden@127.0.0.1:9/x"
    done = ring("run", "smoke", code=2, env={"PREFECT_SERVER_DATABASE_CONNECTION_URL": url})
    assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" in done.stderr
    assert "Traceback" not in done.stderr and "hidden" not in done.stderr


# ---------------------------------------------------------------- streams, locales, folders


def test_output_goes_where_it_can_in_any_locale(ring) -> None:
    folder = ring.home / "artifacts" / "sft" / ("0" * 32)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{", encoding="utf-8")
    plain = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "TERM": "dumb",
        "COLUMNS": "20",
        "PYTHONWARNINGS": "error",
        "NO_COLOR": "1",
    }
    for variables in (plain, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1", "TMPDIR": "/nowhere"}):
        shown = ring("show", "smoke", env=variables)
        assert shown.stdout
        assert not shown.stderr
        ring("verify", code=1, env=variables)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(ring, closed) -> None:
    command = f"{' '.join(ring.command('ls'))} {closed}"
    done = subprocess.run(["sh", "-c", command], env=ring.environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_descriptors_that_were_closed_are_taken_before_a_database_can_get_them() -> None:
    script = """from flows.environment import prepare; prepare()
import os, sys; print(os.open("/dev/null", 0) > 2, file=sys.stderr)"""
    command = 'exec "$0" -c "$1" <&- >&-'
    done = subprocess.run(["sh", "-c", command, sys.executable, script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "True\n"


@pytest.mark.parametrize("arguments", [("show", "laptop"), ("ls", "--json"), ("--help",)])
def test_a_reader_that_leaves_ends_the_command_quietly(ring, arguments) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        ring.command(*arguments), env=ring.environment, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_folders_of_the_same_names_are_not_taken_for_ours(ring, tmp_path) -> None:
    for name in ("data", "stages", "flows", "ring_model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')", encoding="utf-8")
    (tmp_path / "prefect.toml").write_text('[api]\nurl = "http://127.0.0.1:9/api"\n', encoding="utf-8")
    (tmp_path / ".env").write_text("PREFECT_API_URL=http://127.0.0.1:9/api\n", encoding="utf-8")
    script = "from flows.cli import main; main()"
    command = [sys.executable, "-P", "-c", f"import sys; sys.argv = ['ring', 'ls']; {script}"]
    variables = {**ring.environment, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_empty_home_variable_is_none(ring) -> None:
    assert ".ring" in ring("ls", env={"RING_HOME": "", "COLUMNS": "200"}).stdout


def test_a_folder_that_was_removed_is_named(ring, tmp_path) -> None:
    (tmp_path / "gone").mkdir()
    script = f"cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec {' '.join(ring.command('ls'))}"
    variables = {**ring.environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", script], env=variables, capture_output=True, text=True)
    assert done.returncode == 2
    assert "was removed" in done.stderr and "Traceback" not in done.stderr


# ---------------------------------------------------------------- a chain with all of it at once


def test_a_chain_runs_in_a_strange_home_behind_a_proxy_without_a_home_directory(tmp_path) -> None:
    ring = Ring(tmp_path / "a b?c=1#d%20e'f\"é:&;$" / "home")
    ring.home.parent.mkdir()
    (ring.home.parent / "prefect.toml").write_text('[api]\nurl = "http://127.0.0.1:9/api"\n', encoding="utf-8")
    variables = {
        **dict.fromkeys(("http_proxy", "HTTPS_PROXY", "all_proxy"), NOWHERE),
        "no_proxy": "",
        "HOME": str(tmp_path / "no home"),
        "TMPDIR": str(tmp_path / "no folder"),
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "ascii",
        "PYTHONWARNINGS": "error",
        "TERM": "dumb",
        "TZ": "Asia/Kathmandu",
        "OMP_NUM_THREADS": "7",
        "PREFECT_SERVER_API_AUTH_STRING": "admin:pass",
        "PREFECT_TASKS_REFRESH_CACHE": "true",
        "MLFLOW_TRACKING_URI": "sqlite:///records.db",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
    }
    done = ring("run", "smoke", "--until", "curation", env=variables)
    assert "mlflow ui --backend-store-uri" in done.stdout
    assert [made["stage"] for made in ring.json("ls")["artifacts"]] == ["curation"]
    assert [entry.name for entry in tmp_path.iterdir()] == [ring.home.parent.name]
    assert {path.name for path in ring.home.parent.iterdir()} == {"home", "prefect.toml", "records.db"}
    assert (ring.home / "prefect" / "prefect.db").is_file()
    assert not (ring.home / "mlflow.db").exists()


def test_domains_of_ones_own_are_named_from_everywhere_alike(tmp_path, monkeypatch) -> None:
    (tmp_path / "riddle.py").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RING_DOMAINS", "riddle.py")
    environment._name_own_domains()
    assert os.environ["RING_DOMAINS"] == str(tmp_path / "riddle.py")
