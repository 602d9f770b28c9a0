"""Where the records go: MLFLOW_TRACKING_URI, else the home folder's database. Imports no MLflow, so that every command can ask.

SQLAlchemy 2.0 takes the name of a database file as it stands, and a `?` ends it: an odd path is written as a `file:` address, which
SQLite decodes.
"""

import http.client
import os
import shlex
import socket
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

VARIABLE = "MLFLOW_TRACKING_URI"
ANSWER_SECONDS = 5.0
_DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}  # usual ports
_UNSET = f"or unset {VARIABLE}: then the records go to the home folder"


def sqlite_uri(path: Path, *, driver: str | None = None) -> str:
    """Address of a database file with any name; an encoded one names its driver, as MLflow makes the folders of a plain one undecoded."""
    encoded = quote(str(path))
    is_plain = encoded == str(path)
    driver = driver or (None if is_plain else "pysqlite")
    return f"sqlite{f'+{driver}' if driver else ''}:///{encoded if is_plain else f'file:{encoded}?uri=true'}"


def tracking_uri(home: Path) -> str:
    """Where a home folder's records go."""
    return os.environ.get(VARIABLE) or sqlite_uri(home / "mlflow.db")


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite address, None for another kind of address."""
    scheme, _, rest = uri.partition(":///")
    name = rest.partition("?")[0]
    if scheme.partition("+")[0] != "sqlite":
        return None
    return Path(unquote(name.removeprefix("file:"))) if name.startswith("file:") else Path(name)


def without_password(uri: str) -> str:
    """The address as it may be shown."""
    scheme, mark, rest = uri.partition("://")
    account, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{account.partition(':')[0]}:***@{place}" if at and "/" not in account else uri


def is_server(uri: str) -> bool:
    """Whether the records are kept by a tracking server, which also says where artifacts go."""
    return urlparse(uri).scheme in ("http", "https")


def browse_command(home: Path) -> str:
    """What a person types, or opens, to see the records."""
    uri = tracking_uri(home)
    return without_password(uri) if is_server(uri) else f".venv/bin/mlflow ui --backend-store-uri {shlex.quote(uri)}"


def pin_tracking() -> None:
    """Make the user's address hold for children that run in another folder. Raises ValueError where no records can be kept there."""
    uri = os.environ.get(VARIABLE, "").strip()
    if not uri:
        os.environ.pop(VARIABLE, None)
        return
    kind = urlparse(uri).scheme.partition("+")[0]
    if kind == "sqlite":
        uri = _absolute(uri)
    elif kind in ("http", "https"):
        uri = uri.rstrip("/")
        _require_answer(uri)
    elif kind in _DATABASES:
        _require_database(uri, kind)
    elif uri.partition(":")[0] not in ("databricks", "databricks-uc", "uc"):
        _require_file_store(uri)
    os.environ[VARIABLE] = uri


def _absolute(uri: str) -> str:
    _, slashes, rest = uri.partition(":///")
    if not slashes or not rest or rest.startswith(":memory:"):
        raise ValueError(f"{VARIABLE}={uri} keeps nothing; name a file (sqlite:////folder/records.db), {_UNSET}")
    if rest.startswith(("/", "file:")):
        return uri
    name, mark, query = rest.partition("?")
    absolute = sqlite_uri(Path.cwd() / name)
    return f"{absolute}{'&' if '?' in absolute and mark else mark}{query}"


def _require_answer(uri: str) -> None:
    """MLflow itself would try for minutes."""
    try:
        urllib.request.urlopen(f"{uri}/health", timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in is seen at the first record
    except (OSError, ValueError, http.client.HTTPException) as error:
        if "CERTIFICATE" in str(error):  # MLflow has settings of its own for that
            return
        reason = getattr(error, "reason", None) or error
        raise ValueError(
            f"{VARIABLE}={without_password(uri)}: no server answers ({reason}); start it, {_UNSET}"
        ) from error


def _require_database(uri: str, kind: str) -> None:
    """MLflow itself would try for 100 s."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    where = f"{VARIABLE}={without_password(uri)}"
    try:
        url = make_url(uri)
        url.get_dialect().import_dbapi()
        socket.create_connection((url.host or "localhost", url.port or _DATABASES[kind]), ANSWER_SECONDS).close()
    except ImportError as error:
        raise ValueError(f"{where}: its driver is missing ({error}); install it, {_UNSET}") from error
    except (ArgumentError, ValueError, OSError) as error:
        raise ValueError(f"{where}: no database answers ({error}); start it, {_UNSET}") from error


def _require_file_store(uri: str) -> None:
    scheme = urlparse(uri).scheme
    if scheme in ("", "file") and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1"):
        return
    what = (
        f"starts with an unknown {scheme}:"
        if scheme not in ("", "file")
        else "is a folder, where MLflow keeps records no longer"
    )
    raise ValueError(
        f"{VARIABLE}={uri} {what}; "
        f"name a database (sqlite:////folder/records.db) or a server (http://host:5000), {_UNSET}"
    )
