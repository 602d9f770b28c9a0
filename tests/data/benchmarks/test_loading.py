import csv
import json
from dataclasses import replace

import pytest

from data.benchmarks import BENCHMARKS, find_benchmark
from data.benchmarks import manifest as manifests
from data.benchmarks.loading import NotAvailableError, load_benchmark, verifier_policy, whereabouts
from data.benchmarks.manifest import freeze, frozen
from data.domains.policy import DEFAULT_POLICY
from data.schema import PROBLEM_COLUMNS

REVISION = "a" * 40


@pytest.fixture(autouse=True)
def no_manifests(tmp_path, monkeypatch):
    """The rows here are invented."""
    monkeypatch.setattr("data.benchmarks.loading.frozen", lambda name: frozen(name, folder=tmp_path / "manifests"))
    return tmp_path / "manifests"


def _jsonl(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ---------------------------------------------------------------- a local folder


def test_eval_rows_of_the_sets_sources_are_its_rows(row, folder):
    other = [row(2, source="aime25"), row(3, split="train"), row(4, source="codeforces_2024")]
    place = folder(row(0), *other, name="b.parquet")
    folder(row(1), name="a.parquet")
    assert [problem.id for problem in load_benchmark(find_benchmark("aime24"), data_dir=place)] == ["x/1", "x/0"]
    (problem,) = load_benchmark(find_benchmark("codeforces"), data_dir=place)
    assert (problem.id, problem.source) == ("x/4", "codeforces")


def test_rows_of_a_shared_source_are_chosen_by_meta(row, folder):
    meta = [json.dumps({"subject": subject, "score": 6}) for subject in ("physics", "biology")]
    place = folder(
        *(row(number, source="gaokao_science", domain="science", meta=text) for number, text in enumerate(meta))
    )
    assert [problem.id for problem in load_benchmark(find_benchmark("gaokao_physics"), data_dir=place)] == ["x/0"]
    assert len(load_benchmark(find_benchmark("gaokao_science"), data_dir=place)) == 2


def test_rows_of_our_schema_may_be_csv(row, tmp_path):
    path = tmp_path / "in" / "mine.csv"
    path.parent.mkdir()
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(PROBLEM_COLUMNS)
        writer.writerow([getattr(row(5), column) for column in PROBLEM_COLUMNS])
    (problem,) = load_benchmark(find_benchmark("aime24"), data_dir=path)
    assert problem == row(5)


@pytest.mark.parametrize("place", ["math500.jsonl", "math500/test.jsonl"])
def test_a_file_in_the_form_of_the_set_is_converted(tmp_path, place):
    rows = [{"problem": f"{n} + 1?", "answer": str(n + 1), "unique_id": f"t/{n}.json", "level": 1} for n in range(3)]
    _jsonl(tmp_path / "in" / place, *rows)
    problems = load_benchmark(find_benchmark("math500"), data_dir=tmp_path / "in")
    assert [(p.id, p.prompt, p.answer) for p in problems] == [
        (f"math500/t/{n}.json", f"{n} + 1?", f"{n + 1}") for n in range(3)
    ]


def test_a_csv_in_the_form_of_the_set_is_converted(tmp_path):
    path = tmp_path / "gpqa_diamond.csv"
    names = ["Record ID", "Question", "Correct Answer", *(f"Incorrect Answer {n}" for n in (1, 2, 3)), "Explanation"]
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([names, ["r1", "Which, of these?", "a", "b", "c", "d", ""]])
    (problem,) = load_benchmark(find_benchmark("gpqa_diamond"), data_dir=tmp_path)
    assert problem.id == "gpqa_diamond/r1"
    assert f"({problem.answer}) a" in problem.prompt


def test_rows_outside_the_window_are_left_out(tmp_path):
    case = json.dumps([{"input": "1", "output": "1", "testtype": "stdin"}])
    rows = [
        {
            "question_id": day,
            "question_content": "q",
            "contest_date": day,
            "public_test_cases": case,
            "private_test_cases": "[]",
        }
        for day in ("2024-07-31T00:00:00", "2024-08-01T00:00:00", "2025-01-31T00:00:00", "2025-02-01T00:00:00")
    ]
    path = _jsonl(tmp_path / "livecodebench.jsonl", *rows)
    problems = load_benchmark(find_benchmark("livecodebench"), data_dir=path)
    assert [problem.metadata["contest_date"][:10] for problem in problems] == ["2024-08-01", "2025-01-31"]
    _jsonl(path, rows[0])
    with pytest.raises(ValueError, match="none of 1 rows belongs to it"):
        load_benchmark(find_benchmark("livecodebench"), data_dir=path)


def test_a_row_that_is_none_of_the_form_is_named(tmp_path):
    _jsonl(tmp_path / "math500.jsonl", {"problem": "q", "answer": "1"}, {"problem": "", "answer": "1"})
    with pytest.raises(ValueError, match=r"benchmark math500: math500.jsonl, row 2: the question is empty"):
        load_benchmark(find_benchmark("math500"), data_dir=tmp_path)


def test_rows_of_our_schema_that_are_not_for_evaluation_are_no_set_in_its_own_form(row, folder):
    place = folder(row(0, source="gsm8k", split="train"), name="gsm8k.parquet")
    with pytest.raises(NotAvailableError, match="holds no `eval` row with the source gsm8k"):
        load_benchmark(find_benchmark("gsm8k"), data_dir=place)


def test_a_set_that_is_there_twice_is_refused(row, folder):
    place = folder(row(0), name="ours.parquet")
    _jsonl(place / "aime24.jsonl", {"problem": "p", "answer": "1"})
    with pytest.raises(
        ValueError, match=r"holds it twice, as rows of our schema in ours\.parquet and in its own form in aime24\.jsonl"
    ):
        load_benchmark(find_benchmark("aime24"), data_dir=place)


def test_rows_with_one_id_are_refused_whatever_version_is_meant(row, folder):
    folder(row(0), name="a.parquet")
    place = folder(row(0), name="b.parquet")
    with pytest.raises(ValueError, match="benchmark aime24: row x/0 is there more than once"):
        load_benchmark(find_benchmark("aime24"), data_dir=place, another_version=True)


def test_a_folder_of_folders_needs_no_file_of_its_own(tmp_path):
    _jsonl(tmp_path / "in" / "aime24" / "train.jsonl", {"problem": "p", "answer": "1"})
    (tmp_path / "in" / "README.md").write_text("sets")
    assert [p.id for p in load_benchmark(find_benchmark("aime24"), data_dir=tmp_path / "in")] == ["aime24/0"]
    with pytest.raises(NotAvailableError):
        load_benchmark(find_benchmark("math500"), data_dir=tmp_path / "in")
    with pytest.raises(ValueError, match=r"data folder .*: no such folder or file"):
        load_benchmark(find_benchmark("math500"), data_dir=tmp_path / "none")


def test_what_a_folder_lacks_is_not_available_and_no_hub_is_asked(row, folder):
    place = folder(row(0))
    with pytest.raises(NotAvailableError, match=r"benchmark math500: .* holds no `eval` row with the source math500"):
        load_benchmark(find_benchmark("math500"), data_dir=place)
    with pytest.raises(
        NotAvailableError, match="; put HuggingFaceH4/MATH-500 of the hub there, or leave the folder out"
    ):
        load_benchmark(find_benchmark("math500"), data_dir=place)
    for name in ("kaoyan", "humaneval"):
        with pytest.raises(NotAvailableError, match="; give a folder that holds it"):
            load_benchmark(find_benchmark(name), data_dir=place)
    with pytest.raises(NotAvailableError, match=r"none of the rows in .* is one of its"):
        load_benchmark(find_benchmark("gaokao_physics"), data_dir=folder(row(0, source="gaokao_science")))


# ---------------------------------------------------------------- the frozen version


def test_rows_that_are_not_the_frozen_ones_are_refused_unless_another_version_is_meant(row, folder, no_manifests):
    benchmark = find_benchmark("aime24")
    freeze("aime24", [row(0), row(1)], folder=no_manifests)
    assert len(load_benchmark(benchmark, data_dir=folder(row(0), row(1)))) == 2
    changed = folder(row(0), row(1, answer="9"))
    with pytest.raises(ValueError, match=r"row x/1 is not the row of the frozen manifest.*another_version"):
        load_benchmark(benchmark, data_dir=changed)
    assert [p.answer for p in load_benchmark(benchmark, data_dir=changed, another_version=True)] == ["1", "9"]


def test_the_frozen_manifests_are_those_of_benchmarks():
    paths = sorted(manifests.FOLDER.glob("*"))
    assert paths
    for path in paths:
        assert path.suffix == ".txt"
        manifest = frozen(path.stem)
        assert manifest is not None
        assert path.stem in BENCHMARKS


@pytest.mark.parametrize("name", [path.stem for path in sorted(manifests.FOLDER.glob("*.txt"))])
def test_the_sets_at_hand_are_the_frozen_ones(name, shared_data, monkeypatch):
    monkeypatch.setattr("data.benchmarks.loading.frozen", frozen)
    problems = load_benchmark(find_benchmark(name), data_dir=shared_data)
    assert len(problems) == len(frozen(name).digests)


# ---------------------------------------------------------------- the hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A data set in a layout that `datasets` reads."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))

    def make(name, files):
        folder = tmp_path / "set"
        for file, rows in files.items():
            _jsonl(folder / file, *rows)
        return replace(find_benchmark(name), repo=str(folder), revision=REVISION)

    return make


def test_a_set_of_the_hub_is_converted(hub):
    benchmark = hub("math500", {"test.jsonl": [{"problem": "1 + 1?", "answer": "2", "unique_id": "a"}]})
    (problem,) = load_benchmark(benchmark)
    assert (problem.id, problem.prompt, problem.answer, problem.source) == ("math500/a", "1 + 1?", "2", "math500")


def test_files_of_a_repository_without_configurations_are_read_one_after_the_other(hub):
    case = json.dumps([{"input": "1", "output": "1", "testtype": "stdin"}])
    rows = [
        {
            "question_id": str(n),
            "question_content": "q",
            "contest_date": "2024-09-01",
            "public_test_cases": case,
            "private_test_cases": "[]",
        }
        for n in range(2)
    ]
    benchmark = hub("livecodebench", {"test.jsonl": rows[:1], "test2.jsonl": rows[1:], "other.jsonl": rows})
    problems = load_benchmark(replace(benchmark, files=("test.jsonl", "test2.jsonl")))
    assert [problem.id for problem in problems] == ["livecodebench/0", "livecodebench/1"]


def test_ids_of_several_configurations_differ(hub, tmp_path):
    benchmark = hub("livemathbench", {f"{name}.jsonl": [{"question": name, "answer": "1"}] for name in "ab"})
    configs = "".join(f"- config_name: {n}\n  data_files:\n  - split: test\n    path: {n}.jsonl\n" for n in "ab")
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n", encoding="utf-8")
    problems = load_benchmark(replace(benchmark, subsets=("a", "b")))
    assert [(p.id, p.prompt) for p in problems] == [("livemathbench/a/0", "a"), ("livemathbench/b/0", "b")]


def test_a_set_without_a_pinned_commit_needs_one(hub):
    benchmark = replace(hub("hmmt25", {"train.jsonl": [{"problem": "p", "answer": "1"}]}), revision=None)
    with pytest.raises(NotAvailableError, match=r"no commit of .* is pinned; give one as `revision`, or a folder"):
        load_benchmark(benchmark)
    assert len(load_benchmark(benchmark, revision=REVISION)) == 1


@pytest.mark.parametrize(("name", "why"), [("kaoyan", "on no hub"), ("humaneval", "no loader for the form of openai")])
def test_a_set_that_is_nowhere_is_not_available(name, why):
    with pytest.raises(NotAvailableError, match=f"benchmark {name}: {why}.*; give a folder that holds the set"):
        load_benchmark(find_benchmark(name))


def test_a_hub_that_does_not_have_it_is_not_available(hub):
    benchmark = replace(hub("math500", {"test.jsonl": [{"problem": "p", "answer": "1"}]}), split="dev")
    with pytest.raises(NotAvailableError, match=r"benchmark math500: .* cannot be loaded"):
        load_benchmark(benchmark)


# ---------------------------------------------------------------- where they are


def test_the_table_says_where_each_set_is(row, folder):
    names = ("aime24", "math500", "gpqa_diamond", "kaoyan", "hmmt25", "humaneval", "gaokao25_math")
    found = whereabouts([find_benchmark(name) for name in names], data_dir=folder(row(0), row(1, source="humaneval")))
    assert {one.name: one.place for one in found} == {
        "aime24": "here", "math500": "hub", "gpqa_diamond": "gated", "kaoyan": "not available here",
        "hmmt25": "not available here", "humaneval": "here", "gaokao25_math": "not available here",
    }  # fmt: skip
    told = {one.name: one.detail for one in found}
    assert told["aime24"] == told["humaneval"] == "some.parquet"
    assert told["math500"].startswith("HuggingFaceH4/MATH-500 at 6e4ed1a2")
    assert told["hmmt25"] == "no commit of MathArena/hmmt_feb_2025 is pinned"
    assert told["kaoyan"] == "on no hub"


def test_without_a_folder_nothing_is_here():
    assert {one.place for one in whereabouts()} == {"hub", "gated", "not available here"}
    assert [one.name for one in whereabouts()] == list(BENCHMARKS)


def test_the_policy_is_the_default_but_for_what_the_catalogue_says():
    assert verifier_policy(find_benchmark("math500")) == DEFAULT_POLICY
    assert verifier_policy(find_benchmark("gaokao_physics")) == replace(DEFAULT_POLICY, partial_credit=True)
