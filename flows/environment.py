"""What the command finds around it, made safe for this process and every child: streams, proxies, Python's own variables.

`prepare` runs before anything else. docs/environment.md says for people which variable does what.
"""

import io
import os
import sys
import warnings
from pathlib import Path

from data.domain_names import VARIABLE, own_domain_files

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PYTHON_CHILDREN = ("PYTHONIOENCODING", "PYTHONOPTIMIZE", "PYTHONWARNINGS")  # meant for the person's own programs


def prepare() -> None:
    """Standard streams that can be written, servers on this machine reached directly, children that read and write UTF-8."""
    _speak_utf8()
    _open_streams()
    bypass_proxies(*LOOPBACK)
    _calm_python()
    _stand_somewhere()
    _name_own_domains()


def _speak_utf8() -> None:
    """Under a locale without UTF-8 (LC_ALL=C and PYTHONUTF8=0) libraries cannot read their own files: start again with it.

    What is printed stays in the person's encoding.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.ignore_environment:
        return
    os.environ.setdefault("PYTHONIOENCODING", f"{sys.getfilesystemencoding()}:backslashreplace")
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def bypass_proxies(*hosts: str) -> None:
    """No proxy stands between us and these hosts; what a person excludes stays excluded. Libraries read one spelling or the other."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    entries = [entry.strip() for entry in known.split(",") if entry.strip()]
    if "*" not in entries:
        entries += [host for host in hosts if host not in entries]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(entries)


def _open_streams() -> None:
    """A closed descriptor 0, 1 or 2 would go to the next file that is opened: a database, say, into which a child then prints."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - lives as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _calm_python() -> None:
    """A warning of a library's is no error of ours, asserts stay, and a file is UTF-8 whatever the locale says."""
    for name in PYTHON_CHILDREN:
        os.environ.pop(name, None)
    os.environ["PYTHONUTF8"] = "1"
    if sys.warnoptions:
        sys.warnoptions.clear()
        warnings.resetwarnings()
        warnings.simplefilter("ignore")


def _stand_somewhere() -> None:
    """The folder in which the command runs, and the person's own, are there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ValueError("the folder in which this command runs was removed; change to another (`cd`)") from None
    try:
        Path.home()
    except (
        RuntimeError
    ):  # no HOME, and a user whom no table knows, as in a container; Prefect asks for it when imported
        os.environ["HOME"] = os.environ.get("TMPDIR", "/tmp")


def _name_own_domains() -> None:
    """Their files are named from everywhere alike. Raises ValueError for what is none."""
    if files := own_domain_files():
        os.environ[VARIABLE] = os.pathsep.join(map(str, files.values()))
