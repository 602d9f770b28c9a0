"""The source in a bundle is the one whose code digests stand in the manifests."""

import subprocess

import pytest

from flows.bundle.source import write_source
from stages.plan import MODULES
from stages.records.artifact import Manifest
from stages.records.code_digest import code_digest


@pytest.fixture
def checkout(tmp_path):
    """A repository with the module of one stage, committed as `A = 1`."""
    root = tmp_path / "checkout"
    module = root.joinpath(*MODULES["sft"].split(".")).with_suffix(".py")
    module.parent.mkdir(parents=True)
    for place in (root / "stages", module.parent):
        (place / "__init__.py").touch()
    _write(module, "A = 1\n")
    _git(root, "init", "-q")
    _git(root, "add", ".")
    _git(root, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "one")
    return root, module


def _git(root, *arguments):
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _write(module, text):
    module.write_text(text)


def _manifest(root, *, commit):
    payload = {"stage": "sft", "arm": None, "config": {}, "code": code_digest(MODULES["sft"], root=root)}
    return Manifest(root, {"payload": payload, "code": {"commit": commit, "dirty": False}})


def test_the_commit_is_taken_where_it_made_the_result(checkout, tmp_path):
    root, module = checkout
    commit = _git(root, "rev-parse", "HEAD")
    manifest = _manifest(root, commit=commit)
    _write(module, "A = 2\n")
    found = write_source({"sft": manifest}, tmp_path / "source", root=root)
    assert (found.commit, found.gives) == (commit, {"sft": True})
    assert (tmp_path / "source" / module.relative_to(root)).read_text() == "A = 1\n"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("source")] == ["source"]


def test_the_working_tree_is_taken_where_the_commit_did_not_make_the_result(checkout, tmp_path):
    root, module = checkout
    _write(module, "A = 2\n")
    manifest = _manifest(root, commit=_git(root, "rev-parse", "HEAD"))
    found = write_source({"sft": manifest}, tmp_path / "source", root=root)
    assert (found.commit, found.gives) == (None, {"sft": True})
    assert (tmp_path / "source" / module.relative_to(root)).read_text() == "A = 2\n"


def test_code_that_is_nowhere_any_more_is_said_to_be(checkout, tmp_path):
    root, module = checkout
    manifest = _manifest(root, commit="0" * 40)
    _write(module, "A = 3\n")
    found = write_source({"sft": manifest}, tmp_path / "source", root=root)
    assert (found.commit, found.gives) == (None, {"sft": False})
