"""`--model-size tiny`: any recipe, small enough for a CPU, and never mistaken for itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.model_size import BASE_FOLDER, TINY_MODEL, random_base, tiny_changes
from ring_model.checkpoint import check_folder
from ring_model.tokenizer import Tokenizer
from stages.config import RlArm
from stages.plan import plan_chain
from stages.recipe import load_recipe, recipe_names

WHOLE_CHAINS = ("ring-lite", "ring-1t", "single-gpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_base(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_made_tiny_and_is_another_one(
    name: str, with_data: bool, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("question,answer\n6 times 7?,42\n")
    data_dir = tmp_path if with_data else None
    recipe = load_recipe(name).recipe
    if recipe.until == "curation":
        pytest.skip("no model")
    released = recipe.base.checkpoint is not None
    changes = tiny_changes(recipe, data_dir=data_dir, base=base if released else None)
    tiny = load_recipe(name, overrides=[change.override for change in changes]).recipe
    assert tiny.name == f"{name}-tiny"
    assert (tiny.runtime.device, tiny.runtime.rl_ranks) == ("cpu", 1)
    assert tiny.base.model.model_dump().items() >= TINY_MODEL.items()
    theirs = {
        spec.fingerprint
        for spec in plan_chain(load_recipe(name, overrides=_present(released, base)).recipe, data_dir=tmp_path)
    }
    mine = {spec.fingerprint for spec in plan_chain(tiny, data_dir=data_dir)}
    assert not theirs & mine


def _present(released: bool, base: Path) -> list[str]:
    return [f"base.checkpoint='{base}'"] if released else []


@pytest.mark.parametrize("name", WHOLE_CHAINS)
def test_arms_phases_objectives_and_rates_stay_the_recipes(name: str, base: Path) -> None:
    recipe = load_recipe(name).recipe
    changes = tiny_changes(recipe, data_dir=None, base=base)
    tiny = load_recipe(name, overrides=[change.override for change in changes]).recipe
    for mine, theirs in zip(tiny.rl.arms, recipe.rl.arms, strict=True):
        assert isinstance(mine, RlArm)
        assert [(phase.name, phase.mixture) for phase in mine.phases] == [
            (phase.name, phase.mixture) for phase in theirs.phases
        ]
    smaller = {"token_budget", "budget_ranks", "updates_per_batch"}
    assert tiny.rl.objective.model_dump(exclude=smaller) == recipe.rl.objective.model_dump(exclude=smaller)
    assert tiny.rl.optimizer == recipe.rl.optimizer
    assert tiny.sft.training.learning_rate == recipe.sft.training.learning_rate
    assert tiny.selection.entropy_window == recipe.selection.entropy_window


def test_every_change_says_what_the_recipe_has(base: Path) -> None:
    changes = {change.key: change for change in tiny_changes(load_recipe("ring-lite").recipe, data_dir=None, base=base)}
    assert changes["rl.prompts_per_step"].was_in_words == " (the recipe: 512)"
    assert changes["rl.prompts_per_step"].override == "rl.prompts_per_step=4"
    assert changes["sft.training.max_total_tokens"].was == 32_768
    assert "sft.training.epochs" not in changes  # three are few already


def test_the_random_base_is_whole_and_the_same_every_time(base: Path, tmp_path: Path) -> None:
    again = random_base(tmp_path)
    assert again == tmp_path / BASE_FOLDER
    assert check_folder(again) == check_folder(base) < 300_000
    for path in sorted(base.iterdir()):
        assert path.read_bytes() == (again / path.name).read_bytes()
    tokenizer = Tokenizer.from_folder(again)
    assert tokenizer.decode(tokenizer.encode("数学 \\frac{1}{2}")) == "数学 \\frac{1}{2}"
    stamp = (again / "config.json").stat().st_mtime_ns
    assert random_base(tmp_path).joinpath("config.json").stat().st_mtime_ns == stamp


def run_tiny(name: str, home: Path, *arguments: str) -> tuple[dict, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "RING_"))}
    environment = {**kept, "RING_HOME": str(home)}
    command = [sys.executable, "-m", "flows.cli", "run", name, "--model-size", "tiny", "--json", *arguments]
    done = subprocess.run(command, env=environment, cwd=home.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_the_papers_recipe_runs_from_end_to_end_on_a_cpu(tmp_path: Path) -> None:
    document, said = run_tiny("ring-lite", tmp_path / "home")
    assert document["recipe"] == "ring-lite-tiny"
    stages = [(stage["stage"], stage["arm"]) for stage in document["stages"]]
    assert stages == [
        ("curation", None), ("base", None), ("sft", None), ("selection", None), ("rl", "phased"), ("rl", "mixed"),
        ("evaluation", None), ("report", None),
    ]  # fmt: skip
    assert "ring-lite is run tiny: its results say nothing about the recipe's own" in said
    assert "rl.prompts_per_step = 4 (the recipe: 512)" in said


@pytest.mark.slow
def test_the_recipe_for_one_gpu_runs_on_public_problems_with_a_vocabulary_of_its_own(tmp_path: Path) -> None:
    folder = Path(os.environ.get("RING_DATA_DIR", Path(__file__).parents[3] / "shared" / "data"))
    if not (folder / "gsm8k.parquet").is_file():
        pytest.skip(f"no public problem sets in {folder}; set RING_DATA_DIR")
    document, _ = run_tiny("single-gpu", tmp_path / "home", "--data-dir", str(folder))
    assert document["recipe"] == "single-gpu-tiny"
    (made,) = (Path(stage["artifact"]) for stage in document["stages"] if stage["stage"] == "base")
    tokenizer = Tokenizer.from_folder(made / "model")
    assert tokenizer.vocab_size == 1024
    assert tokenizer.decode(tokenizer.encode("½ of 84")) == "½ of 84"
    assert {"sft/gsm8k/greedy", "phased/mbpp/greedy"} <= document["results"].keys()
