"""Prefect's settings for a home folder. Import and call before anything imports Prefect."""

import os
import tomllib
import urllib.request
from pathlib import Path

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_CLI_PROMPT": "false",
}
PROJECT_SETTINGS = Path(__file__).resolve().parent.parent / "prefect.toml"  # written by `ring up`, read by Prefect


def use_home(home: Path) -> None:
    """Keep Prefect's database and results under the home folder, and use the server that `ring up` runs for it, if it answers."""
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    os.environ.setdefault("PREFECT_HOME", str(home / "prefect"))
    if "PREFECT_API_URL" in os.environ:
        return
    if url := running_server(home):
        os.environ["PREFECT_API_URL"] = url
    elif PROJECT_SETTINGS.is_file() and not _answers(tomllib.loads(PROJECT_SETTINGS.read_text())["api"]["url"]):
        PROJECT_SETTINGS.unlink()  # left by a `ring up` that was killed; Prefect would look for its server


def running_server(home: Path) -> str | None:
    """API address of the server that `ring up` started for this home, None when it does not answer."""
    note = home / "up.url"
    url = note.read_text(encoding="utf-8").strip() if note.is_file() else None
    return url if url and _answers(url) else None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2):
            return True
    except OSError:
        return False
