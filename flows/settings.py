"""Prefect's settings for a home folder, and which server is used. Import and call before anything imports Prefect.

First comes the server that the user names (PREFECT_API_URL, or the profile that PREFECT_PROFILE names), then that of `ring up`
for this home, then one for the chain alone. A server that is named and does not answer is a mistake, not a reason to use another.
"""

import contextlib
import http.client
import importlib.util
import json
import os
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from stages.records.tracking_uri import pin_tracking, sqlite_uri, without_password

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_CLI_PROMPT": "false",
}
PROJECT_SETTINGS = Path(__file__).resolve().parent.parent / "prefect.toml"  # written by `ring up`, read by Prefect
WRITTEN_BY_US = "# written by `ring up`, removed when it stops\n"
ANSWER_SECONDS = 5.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
CERTIFICATES = ("ssl_cert_file", "ssl_cert_dir")
DATABASE = ("CONNECTION_URL", "DRIVER", "HOST", "NAME")  # a person who sets one of these chose a database
CONNECTION_URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


def use_home(home: Path) -> None:
    """Keep what Prefect and MLflow write under the home folder, unless the user names other places. Raises ValueError for a wrong one."""
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    _require_http_client()
    pin_tracking()
    _keep_prefect_in(home)


def choose_server(home: Path) -> None:
    """The Prefect server of a chain, if there is one already. Raises ValueError where the one that the user names does not answer."""
    if url := _named_server():
        require_prefect(url)
    elif url := running_server(home):
        os.environ["PREFECT_API_URL"] = url
    elif (left := _left_behind()) and not _answers(left):
        with contextlib.suppress(OSError):  # the file of another user
            PROJECT_SETTINGS.unlink()  # left by a `ring up` that was killed; Prefect would look for its server


def _require_http_client() -> None:
    """Prefect's client fails with a traceback on a proxy or certificate file that it cannot use, even if it never needs it."""
    import httpx

    try:
        httpx.Client().close()
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        kinds = CERTIFICATES if isinstance(error, OSError) else PROXIES
        known = [f"{name}={without_password(os.environ[name])}" for name in os.environ if name.lower() in kinds]
        raise ValueError(
            f"no connection can be made with {', '.join(known)}: {str(error).rstrip('.')}. "
            "Correct the variable, or unset it for this command (`env -u NAME ring ...`)"
        ) from error


def _keep_prefect_in(home: Path) -> None:
    """Database and results in the home folder; no profile but one that is named."""
    place = Path(os.environ.setdefault("PREFECT_HOME", str(home / "prefect"))).expanduser().absolute()
    os.environ["PREFECT_HOME"] = str(place)
    if not chosen_database():
        os.environ[CONNECTION_URL] = _own_database()
    if password := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        os.environ.setdefault("PREFECT_API_AUTH_STRING", password)


def chosen_database() -> list[str]:
    """Variables by which the user chose a database for Prefect's server; none: it is a file in PREFECT_HOME."""
    names = [f"PREFECT_{server}_DATABASE_{part}" for server in ("SERVER", "API") for part in DATABASE]
    return [
        name
        for name in names
        if name in os.environ and not (name == CONNECTION_URL and os.environ[name] == _own_database())
    ]


def _own_database() -> str:
    return sqlite_uri(Path(os.environ["PREFECT_HOME"]) / "prefect.db", driver="aiosqlite")


def _named_server() -> str | None:
    """The API address that the user names, None without one."""
    if not os.environ.get("PREFECT_API_URL"):
        os.environ.pop("PREFECT_API_URL", None)
        if url := _profile_server():
            os.environ["PREFECT_API_URL"] = url
    return os.environ.get("PREFECT_API_URL")


def _profile_server() -> str | None:
    """That of the profile which PREFECT_PROFILE names, in the user's own file of profiles. Raises ValueError if there is no such one."""
    name = os.environ.get("PREFECT_PROFILE")
    if not name:
        os.environ.pop("PREFECT_PROFILE", None)
        return None
    usual = Path(os.environ["PREFECT_HOME"]) / "profiles.toml"
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or (usual if usual.is_file() else "~/.prefect/profiles.toml"))
    path = path.expanduser().absolute()
    os.environ["PREFECT_PROFILES_PATH"] = str(path)
    profiles = {**_profiles(_built_in_profiles()), **_profiles(path)}
    if name not in profiles:
        raise ValueError(
            f"PREFECT_PROFILE={name}: no such profile in {path}; there are {', '.join(sorted(profiles))}. "
            "Name one of these, or unset PREFECT_PROFILE"
        )
    return profiles[name].get("PREFECT_API_URL")


def _built_in_profiles() -> Path:
    found = importlib.util.find_spec("prefect")  # does not import it
    folders = (found.submodule_search_locations if found else None) or []
    return Path(next(iter(folders), "")) / "settings" / "profiles.toml"


def _profiles(path: Path) -> dict[str, dict[str, str]]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")).get("profiles", {}) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path}: Prefect's profiles cannot be read: {error}") from error


def running_server(home: Path) -> str | None:
    """API address of the server that `ring up` started for this home, None when it does not answer."""
    note = home / "up.url"
    url = note.read_text(encoding="utf-8").strip() if note.is_file() else None
    return url if url and _answers(url) else None


def _left_behind() -> str | None:
    """The address in the project's settings, if `ring up` wrote them; a file of the user's own is not ours to read or remove."""
    try:
        text = PROJECT_SETTINGS.read_text(encoding="utf-8")
    except OSError:
        return None
    return tomllib.loads(text)["api"]["url"] if text.startswith(WRITTEN_BY_US) else None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2):
            return True
    except (OSError, http.client.HTTPException):
        return False


def require_prefect(url: str) -> None:
    """Raises ValueError unless a Prefect API answers under the address that the user named."""
    name = f"PREFECT_API_URL={without_password(url)}" + (
        f" (profile {profile})" if (profile := os.environ.get("PREFECT_PROFILE")) else ""
    )
    instead = (
        "Start that server, or unset the variable: then `ring run` starts one of its own, or uses that of `ring up`"
    )
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=ANSWER_SECONDS) as answer:
            is_prefect = _is_cloud(url) or json.loads(answer.read(1000)) is True
    except urllib.error.HTTPError as error:
        is_prefect = error.code in (401, 403) or _is_cloud(url)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        if "CERTIFICATE" in str(error):  # Prefect has settings of its own for that
            return
        raise ValueError(f"{name}: no Prefect server answers ({_reason(error)}). {instead}") from error
    except ValueError:
        is_prefect = False
    if not is_prefect:
        raise ValueError(f"{name}: what answers there is no Prefect API; its address ends with /api. {instead}")


def _is_cloud(url: str) -> bool:
    return (urllib.parse.urlparse(url).hostname or "").endswith("prefect.cloud")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or type(error).__name__)
