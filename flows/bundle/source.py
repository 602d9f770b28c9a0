"""The source that goes into a bundle: the commit that made the results, or the working tree where that is what made them.

Each result holds a digest of the code that made it, over the syntax trees of its modules. Of the commits that the manifests name, and the
working tree, the one is taken that gives most of these digests; which results it gives is written beside it.
"""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.plan import FURTHER_SFT, MODULES
from stages.records.artifact import Manifest
from stages.records.code_digest import FIRST_PARTY, ROOT, code_digest

PACKAGES = ("flows", *FIRST_PARTY)


@dataclass(frozen=True, slots=True)
class Source:
    """What was put into the folder, and which results its code gives the digest of."""

    commit: str | None  # None: the working tree
    gives: dict[str, bool]  # result -> whether its code digest is that of this source

    @property
    def title(self) -> str:
        """For people."""
        return f"commit {self.commit}" if self.commit else "the working tree, with what is not committed"


def write_source(manifests: Mapping[str, Manifest], folder: Path, *, root: Path = ROOT) -> Source:
    """Write the best source there is into `folder`, which must not exist. A commit goes before the working tree where both are as good."""
    commits = dict.fromkeys(one.document["code"]["commit"] for one in reversed([*manifests.values()]))
    tries: list[Source] = []
    for number, commit in enumerate([*(commit for commit in commits if commit and _is_there(commit, root)), None]):
        place = folder.with_name(f"{folder.name}.{number}")
        _write(commit, place, root=root)
        tries.append(Source(commit, _gives(manifests, place)))
        if all(tries[-1].gives.values()):
            break
    best = max(range(len(tries)), key=lambda number: sum(tries[number].gives.values()))
    for number in range(len(tries)):
        place = folder.with_name(f"{folder.name}.{number}")
        place.rename(folder) if number == best else shutil.rmtree(place)
    return tries[best]


def _gives(manifests: Mapping[str, Manifest], root: Path) -> dict[str, bool]:
    return {
        key: code_digest(_module(one), root=root) == one.document["payload"]["code"] for key, one in manifests.items()
    }


def _module(manifest: Manifest) -> str:
    """An arm of further SFT is configured by its training alone."""
    is_further = manifest.stage == "rl" and "arms" not in manifest.document["payload"]["config"]
    return FURTHER_SFT if is_further else MODULES[manifest.stage]


def _write(commit: str | None, folder: Path, *, root: Path) -> None:
    folder.mkdir()
    if commit is None:
        for name in _tree(root):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)
        return
    archive = _git("archive", "--format=tar", commit, root=root)
    with tarfile.open(fileobj=io.BytesIO(archive or b"")) as tar:
        tar.extractall(folder, filter="data")


def _tree(root: Path) -> list[str]:
    """Tracked files, and of the packages those that are not tracked yet; outside a checkout the packages."""
    listed = _git("ls-files", "-z", root=root)
    new = _git("ls-files", "-z", "--others", "--exclude-standard", "--", *PACKAGES, root=root)
    if listed is None or new is None:
        found = (path for name in PACKAGES for path in (root / name).rglob("*") if "__pycache__" not in path.parts)
        return sorted(str(path.relative_to(root)) for path in found if path.is_file())
    names = {name for name in (listed + new).decode().split("\0") if name}
    return sorted(name for name in names if (root / name).is_file() and not (root / name).is_symlink())


def _is_there(commit: str, root: Path) -> bool:
    return _git("cat-file", "-e", f"{commit}^{{commit}}", root=root) is not None


def _git(*arguments: str, root: Path) -> bytes | None:
    """Its output; None where it fails, or there is no git."""
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
