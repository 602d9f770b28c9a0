"""Which model is the best by the probe."""

from pathlib import Path

from stages.rl.best import Best


def keep(best: Best, step: int, score: float) -> bool:
    if not best.is_beaten_by(score):
        return False
    best.clear()
    best.beside.mkdir(parents=True)
    (best.beside / "config.json").write_text(f"model {step}")
    best.keep({"step": step, "attempt": 0, "score": score})
    return True


def test_the_model_with_the_most_right_answers_stays_and_of_equals_the_earlier(tmp_path: Path) -> None:
    best = Best(tmp_path)
    assert (best.row, best.metrics()) == ({}, {})
    kept = [keep(best, step, score) for step, score in enumerate((0.0, 0.5, 0.25, 0.5, 0.75))]
    assert kept == [True, True, False, False, True]
    assert best.row == {"step": 4, "attempt": 0, "score": 0.75}
    assert best.metrics() == {"probe/best": 0.75, "probe/best_step": 4.0}
    assert (tmp_path / "best" / "config.json").read_text() == "model 4"


def test_a_step_that_is_taken_again_changes_nothing(tmp_path: Path) -> None:
    best = Best(tmp_path)
    scores = {0: 0.25, 2: 0.5, 4: 0.75}
    for step, score in scores.items():
        keep(best, step, score)
    assert not any(keep(Best(tmp_path), step, score) for step, score in scores.items())


def test_what_a_kill_left_of_a_model_is_no_part_of_the_next(tmp_path: Path) -> None:
    (tmp_path / ".state" / "best").mkdir(parents=True)
    (tmp_path / ".state" / "best" / "model-00001-of-00002.safetensors").write_text("half")
    keep(Best(tmp_path), 2, 0.5)
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["best.json", "config.json"]
