"""What a change of code, configuration or data does to the fingerprints of a chain; changed code is planned in a process of its own."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.config import ModelEvaluationConfig, Record
from stages.local_files import STANDINGS
from stages.plan import PlannedStage, outdated, plan_chain, plan_model_evaluation
from stages.recipe import RecipeError, load_recipe
from stages.records.artifact import Store

ROOT = Path(__file__).resolve().parents[2]
PLAN = (
    "import json,sys;from stages.plan import plan_chain;from stages.recipe import load_recipe;"
    "print(json.dumps({spec.key: spec.fingerprint for spec in plan_chain(load_recipe(sys.argv[1]).recipe)}))"
)
AFTER_RL = {"rl/phased", "rl/mixed", "evaluation", "report"}  # the control arm is SFT, whatever the RL loss


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("data", "ring_model", "stages", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def fingerprints(project: Path, recipe: str = "smoke") -> dict[str, str]:
    done = subprocess.run([sys.executable, "-c", PLAN, recipe], cwd=project, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def planned(*overrides: str) -> dict[str, str]:
    """Fingerprints of the project's own smoke recipe, planned here."""
    return {spec.key: spec.fingerprint for spec in plan_chain(load_recipe("smoke", overrides=overrides).recipe)}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {key for key in before if before[key] != after[key]}


def edit(path: Path, change: Callable[[str], str]) -> None:
    text = path.read_text(encoding="utf-8")
    assert change(text) != text
    path.write_text(change(text), encoding="utf-8")


def test_a_comment_a_docstring_and_layout_change_nothing(project: Path) -> None:
    loss = project / "stages/rl/losses.py"
    edit(loss, lambda text: text + "\n\n# a comment\n")
    edit(loss, lambda text: text.replace("min(s A, clip(s, 1 - eps_low", "Another sentence"))
    assert changed(planned(), fingerprints(project)) == set()


def test_a_changed_line_of_the_c3po_loss_reruns_rl_and_what_follows_and_nothing_before(project: Path) -> None:
    edit(project / "stages/rl/losses.py", lambda text: text.replace("torch.minimum(", "torch.maximum("))
    assert changed(planned(), fingerprints(project)) == AFTER_RL


def test_a_changed_line_of_the_report_reruns_the_report_alone(project: Path) -> None:
    edit(project / "stages/report/curves.py", lambda text: text.replace("SMOOTHING = 10", "SMOOTHING = 20"))
    assert changed(planned(), fingerprints(project)) == {"report"}


def test_a_changed_page_template_reruns_the_report(project: Path) -> None:
    edit(project / "stages/report/page.html", lambda text: text.replace("<h1>", "<h1 id='top'>"))
    assert changed(planned(), fingerprints(project)) == {"report"}


def test_runtime_is_no_part_of_identity() -> None:
    assert (
        changed(planned(), planned("runtime.workers=7", "runtime.rl_ranks=2", "runtime.micro_batch_tokens=64")) == set()
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("rl.objective.token_budget=300", AFTER_RL),
        ("rl.arms.more-sft.training.epochs=2", {"rl/more-sft", "evaluation", "report"}),
        ("evaluation.samples_per_problem=3", {"evaluation", "report"}),
        ("selection.samples_per_problem=3", {"selection", "rl/more-sft", *AFTER_RL}),
        ("rl.min_solve_rate=0.25", AFTER_RL),  # selection stands: other bands ask for no sample
        ("rl.max_solve_rate=0.75", AFTER_RL),
    ],
)
def test_a_changed_value_reruns_the_stages_that_read_it_and_what_follows(override: str, expected: set[str]) -> None:
    assert changed(planned(), planned(override)) == expected


def test_the_objective_of_an_arm_makes_that_arm_anew_wherever_it_is_stated() -> None:
    before, shared = planned(), planned("rl.objective.kind=grpo", "rl.objective.clip_low=0.1")
    own = planned("rl.arms.mixed.objective={kind='grpo', clip_low=0.1}")
    assert changed(before, own) == {"rl/mixed", "evaluation", "report"}
    assert own["rl/mixed"] == shared["rl/mixed"]
    same = planned("rl.arms.mixed.objective={kind='c3po'}", "rl.arms.phased.optimizer={learning_rate=3e-4}")
    assert changed(before, same) == set()


def test_recipes_that_share_a_prefix_share_its_fingerprints(project: Path) -> None:
    edit(project / "recipes/smoke.toml", lambda text: text.replace('name = "smoke"', 'name = "other"'))
    (project / "recipes/smoke.toml").rename(project / "recipes/other.toml")
    assert fingerprints(project, "other") == planned()


def fingerprint_of(stage: str, *overrides: str) -> str:
    specs = plan_chain(load_recipe("smoke", overrides=overrides).recipe, until="selection")
    return next(spec.fingerprint for spec in specs if spec.stage == stage)


@pytest.mark.parametrize(
    ("stage", "file", "override"),
    [
        ("curation", "rows.csv", "curation.sources=[{{kind='files', folder='{}'}}]"),
        ("curation", "model.safetensors", "curation.duplicates.embeddings='{}'"),
        ("curation", "deeper/model.safetensors", "curation.decontamination.embeddings='{}'"),
        ("base", "deeper/model.safetensors", "base.checkpoint='{}'"),
        ("selection", "model.safetensors", "selection.stronger='{}'"),
    ],
)
def test_a_folder_from_outside_counts_by_its_bytes(tmp_path: Path, stage: str, file: str, override: str) -> None:
    override = override.format(tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("question,answer\none,1\n")
    before = fingerprint_of(stage, override)
    (tmp_path / file).touch()
    assert fingerprint_of(stage, override) == before
    (tmp_path / file).write_text("question,answer\nother,1\n")
    assert fingerprint_of(stage, override) != before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("base.checkpoint='no/such'", "base.checkpoint no/such: no such folder"),
        ("selection.stronger='no/such'", "selection.stronger no/such: no such folder"),
        ("curation.duplicates.embeddings='no/such'", "curation.duplicates.embeddings no/such: no such folder"),
        (
            "curation.sources=[{kind='parquet', name='mine', folder='data-dir'}]",
            "'mine' reads the folder of --data-dir",
        ),
        ("curation.sources=[{kind='parquet', name='mine', folder='no/such'}]", "source 'mine' no/such: no such folder"),
    ],
)
def test_a_folder_that_is_missing_is_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fingerprint_of("base", override)


def test_standings_count_where_a_benchmark_is_rated_by_them(tmp_path: Path) -> None:
    (tmp_path / "sets.csv").write_text("question,answer\none,1\n")
    standings = tmp_path / STANDINGS / "1.standings.json"
    standings.parent.mkdir()

    def planned_evaluation(name: str) -> PlannedStage:
        overrides = [f"curation.benchmarks=['{name}']", f"evaluation.benchmarks=['{name}']"]
        specs = plan_chain(load_recipe("smoke", overrides=overrides).recipe, data_dir=tmp_path)
        return next(spec for spec in specs if spec.stage == "evaluation")

    standings.write_text("{}")
    rated, other = planned_evaluation("codeforces"), planned_evaluation("gsm8k")
    assert (rated.data[STANDINGS].path, other.data) == (standings.parent, {})
    standings.write_text("[]")
    assert planned_evaluation("codeforces").fingerprint != rated.fingerprint
    assert planned_evaluation("gsm8k").fingerprint == other.fingerprint


def test_an_end_that_the_recipe_does_not_reach_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'curate-public' has no \[rl\].*until selection"):
        plan_chain(load_recipe("curate-public").recipe, until="rl")


def test_a_start_that_sft_will_not_keep_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"rl\.arms\.mixed\.start = 'epoch-03': SFT will keep epoch-01, epoch-02;"):
        plan_chain(load_recipe("smoke", overrides=["rl.arms.mixed.start='epoch-03'"]).recipe)
    halves = ["rl.arms.mixed.start='epoch-00+1of2'", "sft.training.checkpoints_per_epoch=2"]
    assert plan_chain(load_recipe("smoke", overrides=halves).recipe)


def test_a_start_is_of_its_arm_alone() -> None:
    changed, before = planned("rl.arms.mixed.start='epoch-01'"), planned()
    assert {key for key in before if changed[key] != before[key]} == {"rl/mixed", "evaluation", "report"}


def test_an_infinite_number_in_a_recipe_is_a_message() -> None:
    with pytest.raises(RecipeError, match=r"kl_coefficient = inf: .*finite"):
        load_recipe("smoke", overrides=["rl.objective.kl_coefficient=inf"])


def test_what_follows_from_an_outdated_stage_is_outdated_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    specs = [spec_of("curation"), spec_of("base", "curation"), spec_of("sft", "base"), spec_of("selection")]
    contents: dict[str, dict[str, str]] = {}
    for spec in specs:
        contents[spec.key] = seal(store, spec, {key: contents[key] for key in spec.inputs})
    assert outdated(specs, store=store) == set()
    seal(store, specs[0], {}, text="other bytes")
    assert outdated(specs, store=store) == {"base", "sft"}


def spec_of(stage: str, *inputs: str) -> PlannedStage:
    return PlannedStage(
        key=stage,
        stage=stage,  # ty: ignore[invalid-argument-type]
        arm=None,
        module="",
        config=Record(),
        inputs=inputs,
        ranks=1,
        payload={"stage": stage, "arm": None},
        fingerprint=hashlib.md5(stage.encode()).hexdigest(),
    )


def seal(store: Store, spec: PlannedStage, inputs: dict[str, dict[str, str]], text: str = "bytes") -> dict[str, str]:
    (store.prepare(spec.stage, spec.fingerprint, afresh=True) / "file").write_text(text)
    document = {
        "payload": spec.payload,
        "inputs": inputs,
        "metrics": {},
        "timings": {},
        "code": {},
        "notes": [],
        "seconds": 0.0,
        "recipe": "",
        "status": "ran",
        "made_at": "",
        "mlflow_run_id": "",
    }
    manifest = store.seal(stage=spec.stage, identity=spec.fingerprint, document=document)
    return {"stage": spec.stage, "fingerprint": spec.fingerprint, "content": manifest.content}


def test_a_domain_of_ones_own_is_part_of_what_every_stage_is(tmp_path, monkeypatch):
    file = tmp_path / "riddle.py"

    def plan():
        recipe = load_recipe("smoke").recipe
        config = ModelEvaluationConfig(model="http://127.0.0.1:9/v1#m", name="m", benchmarks=("aime24",))
        return [*plan_chain(recipe), plan_model_evaluation(config, rows={}, model=None)]

    monkeypatch.delenv("RING_DOMAINS", raising=False)
    without = plan()
    assert not any("domains" in spec.payload for spec in without)
    monkeypatch.setenv("RING_DOMAINS", str(file))
    found = []
    for text in ("X = 1\n", "# a comment\nX = 1\n", "X = 2\n", "import data.schema\nX = 2\n"):
        file.write_text(text)
        found.append(plan())
    plain, commented, changed, importing = ([spec.fingerprint for spec in specs] for specs in found)
    assert plain == commented
    for other in (changed, importing, [spec.fingerprint for spec in without]):
        assert not set(plain) & set(other)
    assert list(found[0][0].payload["domains"]) == ["riddle"]
    file.write_text("X =\n")
    with pytest.raises(ValueError, match=r"riddle\.py: is no Python"):
        plan()
