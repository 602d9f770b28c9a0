"""`ring ls`: when, of what recipe, how good, and in what two of one stage differ."""

import json

import pytest

from flows.commands import listing


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch):
    monkeypatch.setattr(listing._out, "_width", 80)


def told(capsys) -> str:
    assert listing.list_artifacts() == 0
    return capsys.readouterr().out


def test_an_empty_home_says_what_to_do(home, capsys):
    assert "nothing here yet" in (said := told(capsys)) and "ring run smoke" in said
    assert listing.list_artifacts(json_=True) == 0
    assert json.loads(capsys.readouterr().out) == {"artifacts": []}


def test_a_row_says_when_in_utc_and_what_it_came_to(seal, capsys):
    manifest = seal("selection", metrics={"selection/pass@1": 0.4921})
    (row,) = [line.split() for line in told(capsys).splitlines() if "selection" in line]
    assert row[:7] == [manifest.fingerprint[:8], "2026-11-27", "23:00", "tiny", "selection", "pass@1", "0.492"]


@pytest.mark.parametrize(
    ("stage", "metrics", "score"),
    [
        ("curation", {"curation/rows_kept": 25300.0}, "25,300 rows"),
        ("base", {"train/final_loss": 1.5}, "loss 1.500"),
        ("sft", {"train/final_loss": 1.5, "validation/final_loss": 2.0}, "loss 2.000"),
        (
            "evaluation",
            {"sft/all/greedy": 0.5, "mixed/all/greedy": 0.75, "mixed - sft/all/greedy": 0.9},
            "greedy 0.750",
        ),
        ("report", {"report/bytes": 3.0}, ""),
    ],
)
def test_each_stage_has_its_score(seal, stage, metrics, score):
    manifest = seal(stage, metrics=metrics)
    assert listing.score(manifest, among=[manifest]) == score


def test_an_arm_has_the_score_of_its_newest_evaluation_else_its_reward(seal):
    arm = seal("rl", arm="mixed", metrics={"reward/mean_final": 0.0625})
    other = seal("rl", arm="mixed", config={"seed": 1}, metrics={"reward/mean_final": 0.5})
    old = seal("evaluation", arm, metrics={"mixed/all/greedy": 0.7}, minute=1)
    new = seal("evaluation", arm, config={"seed": 1}, metrics={"mixed/all/greedy": 0.8}, minute=2)
    among = [arm, other, old, new]
    assert [listing.score(item, among=among) for item in (arm, other)] == ["greedy 0.800", "reward 0.500"]


def test_two_results_of_one_stage_are_told_apart_by_what_set_would_change(seal, capsys):
    sft = seal("sft")
    pair = [
        seal("rl", sft, arm="mixed", config={"objective": {"token_budget": budget, "clip": 0.2}})
        for budget in (300, 400)
    ]
    seal("rl", sft, arm="phased")
    changes = listing.differences([sft, *pair])
    assert list(changes.values()) == [["rl.objective.token_budget=300"], ["rl.objective.token_budget=400"]]
    assert f"{pair[0].fingerprint[:8]} rl mixed: rl.objective.token_budget=300" in told(capsys)


def test_results_with_equal_values_are_told_apart_by_what_they_were_made_from(seal):
    starts = [seal("sft", config={"seed": seed}) for seed in (0, 1)]
    pair = [seal("selection", start) for start in starts]
    changes = listing.differences([*starts, *pair])
    assert [changes[item.fingerprint] for item in pair] == [[f"input sft={start.fingerprint[:8]}"] for start in starts]


def test_results_of_two_recipes_are_not_compared(seal):
    pair = [seal("sft", config={"seed": seed}, recipe=f"recipe-{seed}") for seed in (0, 1)]
    assert listing.differences(pair) == {}


def test_folders_can_be_copied(seal, home, capsys):
    manifest = seal("sft")
    assert "home/artifacts/*/ID*" in told(capsys)
    assert listing.list_artifacts(json_=True) == 0
    (row,) = json.loads(capsys.readouterr().out)["artifacts"]
    assert row["path"] == str(manifest.folder) and row["fingerprint"] == manifest.fingerprint
