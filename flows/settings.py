"""Prefect's settings for a home folder. Import and call before anything imports Prefect."""

import os
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
    if "PREFECT_API_URL" not in os.environ:
        if url := running_server(home):
            os.environ["PREFECT_API_URL"] = url
        else:
            PROJECT_SETTINGS.unlink(
                missing_ok=True
            )  # left by a `ring up` that was killed; Prefect would look for its server


def running_server(home: Path) -> str | None:
    """API address of the server that `ring up` started for this home, None when it does not answer."""
    note = home / "up.url"
    if not note.is_file():
        return None
    url = note.read_text(encoding="utf-8").strip()
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2):
            return url
    except OSError:
        return None
