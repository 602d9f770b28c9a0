"""The Containerfile, without a builder: what it copies is there and enough, its base is pinned, and it runs as nobody special."""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flows.cli import COMMANDS
from stages.recipe import RECIPES
from stages.records.reference import PUBLISHED

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """(INSTRUCTION, its arguments on one line)."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [
        (name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines.splitlines() if line.strip())
    ]


def arguments(name: str) -> list[str]:
    return [rest for one, rest in instructions() if one == name]


def copied() -> list[str]:
    return [source for rest in arguments("COPY") for source in shlex.split(rest)[:-1]]


def test_every_instruction_is_one() -> None:
    assert {name for name, _ in instructions()} <= set("FROM ARG RUN COPY ENV USER WORKDIR VOLUME CMD".split())


def test_the_base_is_pinned_to_a_python_that_the_project_takes() -> None:
    (base,) = arguments("FROM")
    found = re.fullmatch(r"docker\.io/library/python:(3)\.(\d+)\.\d+-slim-[a-z]+", base)
    assert found
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert needs == f">={found[1]}.{found[2]}"


def test_what_is_copied_is_in_the_repository_and_not_ignored() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for source in copied():
        assert (ROOT / source).exists(), source
        assert not any(fnmatch.fnmatch(source, pattern.removeprefix("**/")) for pattern in ignored), source


def test_what_the_program_reads_beside_its_packages_is_copied() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    needed = [
        *(name.removesuffix("*") for name in packages),
        *(path.relative_to(ROOT).parts[0] for path in (RECIPES, PUBLISHED)),
    ]
    assert {*needed, "prefect.yaml", "constraints.txt", "pyproject.toml"} <= set(copied())


def test_the_pinned_set_is_installed_and_the_compiler_that_the_sandbox_names() -> None:
    runs = " ".join(arguments("RUN"))
    assert re.search(r"pip install [^&]*-c constraints\.txt \.", runs)
    assert "g++" in runs
    assert "g++" in (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8")


def test_it_runs_as_a_user_of_its_own_whose_home_folder_is_a_volume() -> None:
    (user,) = arguments("USER")
    (volume,) = arguments("VOLUME")
    order = [name for name, _ in instructions()]
    assert order.index("USER") > max(place for place, name in enumerate(order) if name in ("RUN", "COPY"))
    assert f"useradd --create-home --uid 1000 {user}" in " ".join(arguments("RUN"))
    assert f"--owner={user} --group={user} {volume}" in " ".join(arguments("RUN"))
    assert f"RING_HOME={volume}" in " ".join(arguments("ENV"))


def test_its_command_is_one_of_ours_with_a_recipe_that_is_there() -> None:
    program, command, recipe = json.loads(arguments("CMD")[0])
    assert (program, command) == ("ring", "run")
    assert command not in COMMANDS  # of the group itself
    assert (RECIPES / f"{recipe}.toml").is_file()


@pytest.mark.slow
def test_what_is_copied_is_enough_for_a_stage(tmp_path: Path) -> None:
    image = tmp_path / "opt" / "ring"
    image.mkdir(parents=True)
    for source in copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, image / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / source, image / source)
    environment = {**os.environ, "PYTHONPATH": str(image), "RING_HOME": str(tmp_path / "results")}
    where = [
        sys.executable,
        "-c",
        "import flows.cli, stages.recipe; print(flows.cli.__file__); print(stages.recipe.RECIPES)",
    ]
    said = subprocess.run(where, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert all(line.startswith(str(image)) for line in said.splitlines())
    run = [sys.executable, "-m", "flows.cli", "run", "smoke", "--until", "curation", "--json"]
    done = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stages"][0]["status"] == "ran"
