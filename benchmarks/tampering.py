"""Change a published chain in every way we know, and see whether `check.py` finds it: `python -m benchmarks tampering BUNDLE [ROOT]`.

BUNDLE is a folder of `ring bundle`; a copy is changed, never the folder itself. The kinds are the table KINDS. Each is made by hands of
some skill: `plain` changes a file and no more; `listed` also writes the bag's lists of digests again; `resealed` also the manifest, content
digest and seal of the result that the file belongs to; `forged` everything that follows, the root digest included, so that the folder is a
whole bundle that says another thing: that is found against the root digest that was kept elsewhere, and against nothing else.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.bundle import check
from flows.bundle.closing import close_bundle

TRIES = 200


@dataclass
class Changed:
    """A bundle that is changed and put back."""

    folder: Path
    rng: random.Random
    before: dict[str, bytes | None] = field(default_factory=dict)  # None: was not there
    made: list[Path] = field(default_factory=list)  # folders, links and pipes

    @property
    def bundle(self) -> check.Bundle:
        """As it stands now."""
        return check.Bundle(self.folder)

    def names(self, *, starts: str = "", ends: str = "") -> list[str]:
        """Files, in order."""
        every = (path for path in sorted(self.folder.rglob("*")) if path.is_file() and not path.is_symlink())
        names = (path.relative_to(self.folder).as_posix() for path in every)
        return [name for name in names if name.startswith(starts) and name.endswith(ends)]

    def one(self, *, starts: str = "", ends: str = "") -> str:
        """Some file."""
        return self.rng.choice(self.names(starts=starts, ends=ends))

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def write(self, name: str, content: bytes) -> None:
        """Written anew, whether or not it is there."""
        path = self.folder / name
        self.before.setdefault(name, path.read_bytes() if path.is_file() else None)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())

    def write_rows(self, name: str, rows: Sequence[Any]) -> None:
        self.write(name, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def remove(self, name: str) -> None:
        self.before.setdefault(name, self.read(name))
        (self.folder / name).unlink()

    def special(self, name: str, make: Callable[[Path], None]) -> None:
        """A folder, a link or a pipe."""
        make(self.folder / name)
        self.made.append(self.folder / name)

    def restore(self) -> None:
        for path in self.made:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, content in self.before.items():
            path = self.folder / name
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


Kind = Callable[[Changed], None]


# ---------------------------------------------------------------- of a file


def flip(changed: Changed, name: str) -> None:
    """One bit of a file."""
    content = bytearray(changed.read(name))
    content[changed.rng.randrange(len(content))] ^= 1 << changed.rng.randrange(8)
    changed.write(name, bytes(content))


def flipped(starts: str = "", ends: str = "") -> Kind:
    return lambda changed: flip(changed, changed.one(starts=starts, ends=ends))


def cut(ends: str) -> Kind:
    def make(changed: Changed) -> None:
        name = changed.one(ends=ends)
        changed.write(name, changed.read(name)[:-1])

    return make


def appended(starts: str = "", ends: str = "") -> Kind:
    def make(changed: Changed) -> None:
        name = changed.one(starts=starts, ends=ends)
        changed.write(name, changed.read(name) + b"\n")

    return make


def removed(starts: str = "", ends: str = "") -> Kind:
    return lambda changed: changed.remove(changed.one(starts=starts, ends=ends))


def added(place: str) -> Kind:
    """`RESULT` stands for the folder of some result."""
    return lambda changed: changed.write(place.replace("RESULT", _result(changed)), b"{}\n")


def swapped(starts: str, ends: str) -> Kind:
    """Two files that differ."""

    def make(changed: Changed) -> None:
        first, second = _two(changed, changed.names(starts=starts, ends=ends))
        ours, theirs = changed.read(first), changed.read(second)
        changed.write(first, theirs)
        changed.write(second, ours)

    return make


def _two(changed: Changed, names: Sequence[str]) -> tuple[str, str]:
    first = changed.rng.choice(names)
    return first, changed.rng.choice([name for name in names if changed.read(name) != changed.read(first)])


def _result(changed: Changed) -> str:
    return changed.rng.choice([*changed.bundle.manifests])


def linked(changed: Changed) -> None:
    """A file becomes a link to the same bytes elsewhere."""
    name = changed.one(starts="data/")
    elsewhere = changed.folder.parent / "elsewhere"
    elsewhere.write_bytes(changed.read(name))
    changed.remove(name)
    changed.special(name, lambda path: path.symlink_to(elsewhere))


def linked_folder(changed: Changed) -> None:
    changed.special("data/more", lambda path: path.symlink_to(changed.folder.parent, target_is_directory=True))


def unlisted(listing: str) -> Kind:
    """A line leaves one of the bag's lists."""

    def make(changed: Changed) -> None:
        lines = changed.read(listing).splitlines(keepends=True)
        lines.pop(changed.rng.randrange(len(lines)))
        changed.write(listing, b"".join(lines))

    return make


def listed_twice(changed: Changed) -> None:
    lines = changed.read(check.BAG_FILES).splitlines(keepends=True)
    changed.write(check.BAG_FILES, b"".join([*lines, changed.rng.choice(lines)]))


def said(name: str, old: str, new: str) -> Kind:
    """A word of a page; the first place where it stands."""

    def make(changed: Changed) -> None:
        content = changed.read(name)
        assert old.encode() in content, (name, old)
        changed.write(name, content.replace(old.encode(), new.encode(), 1))

    return make


def number_in(name: str, pattern: Callable[[Changed], str]) -> Kind:
    """A published number, decimal or hexadecimal, ends with another digit."""

    def make(changed: Changed) -> None:
        old = pattern(changed)
        said(name, old, old[:-1] + ("1" if old.endswith("0") else "0"))(changed)

    return make


def _score(changed: Changed) -> str:
    """A score as README prints it."""
    results = changed.json(changed.bundle.result_file("evaluation", "results.json"))
    return f"{changed.rng.choice([*results.values()])['value']:.4f}"


def _shown_score(changed: Changed) -> str:
    """A score as the sealed page prints it."""
    return next(text for text in ("0.025", ".025", "0.05", "0.") if text.encode() in changed.read(check.REPORT))


# ---------------------------------------------------------------- of rows and documents


def row(name: str, change: Callable[[Any, random.Random], None], where: Callable[[Any], bool] = lambda _: True) -> Kind:
    """A row of JSON lines; `change` alters it."""

    def make(changed: Changed) -> None:
        rows = changed.bundle.rows(name)
        change(changed.rng.choice([one for one in rows if where(one)]), changed.rng)
        changed.write_rows(name, rows)

    return make


def rows(name: str, change: Callable[[list[Any], random.Random], None]) -> Kind:
    """All rows of JSON lines."""

    def make(changed: Changed) -> None:
        every = changed.bundle.rows(name)
        change(every, changed.rng)
        changed.write_rows(name, every)

    return make


def document(name: str, change: Callable[[Any, random.Random], None]) -> Kind:
    """A JSON document. `KEY:file` is a file of a result, `*:file` of any."""

    def make(changed: Changed) -> None:
        key, _, file = name.rpartition(":")
        key = changed.rng.choice([*changed.bundle.by_key]) if key == "*" else key
        path = changed.bundle.result_file(key, file) if key else name
        value = changed.json(path)
        change(value, changed.rng)
        changed.write_json(path, value)

    return make


def _turn(one: Any, _: random.Random) -> None:
    """A verdict becomes the opposite."""
    is_right = one["status"] == "correct"
    one["status"], one["score"] = ("wrong", 0.0) if is_right else ("correct", 1.0)


def _partial(one: Any, _: random.Random) -> None:
    one["score"] = 0.5 if one["score"] != 0.5 else 0.25


def _drop(every: list[Any], rng: random.Random) -> None:
    every.pop(rng.randrange(len(every)))


def _double(every: list[Any], rng: random.Random) -> None:
    every.insert(rng.randrange(len(every)), rng.choice(every))


def _exchange(every: list[Any], rng: random.Random) -> None:
    """Two neighbours that differ change places."""
    places = [place for place in range(len(every) - 1) if every[place] != every[place + 1]]
    place = rng.choice(places)
    every[place], every[place + 1] = every[place + 1], every[place]


def _other_model(one: Any, _: random.Random) -> None:
    one["model"] = "mixed" if one["model"] != "mixed" else "sft"


def _end(end: str, by: float) -> Callable[[Any, random.Random], None]:
    """A value, or an end of an interval, of some score."""

    def change(results: Any, rng: random.Random) -> None:
        rng.choice([*results.values()])[end] += by

    return change


def _in(*keys: str | int, to: Any) -> Callable[[Any, random.Random], None]:
    """A value at a place of a document."""

    def change(value: Any, _: random.Random) -> None:
        for key in keys[:-1]:
            value = value[key]
        value[keys[-1]] = to

    return change


def _metric(value: Any, rng: random.Random) -> None:
    """Some metric of a manifest."""
    value["metrics"][rng.choice([*value["metrics"]])] += 0.01


def _input(value: Any, rng: random.Random) -> None:
    rng.choice([*value["inputs"].values()])["content"] = "ab" * 32


def _compared(end: str, by: float) -> Callable[[Any, random.Random], None]:
    def change(tables: Any, rng: random.Random) -> None:
        rng.choice(tables["comparisons"])[end] += by

    return change


def _material(statement: Any, rng: random.Random) -> None:
    rng.choice(statement["predicate"]["resolvedDependencies"])["digest"]["sha256"] = "cd" * 32


def statement(change: Callable[[Any, random.Random], None]) -> Kind:
    def make(changed: Changed) -> None:
        document(changed.one(starts=f"{check.STATEMENTS}/"), change)(changed)

    return make


def recorded_metric(changed: Changed) -> None:
    """A final metric of the evaluation in the records."""
    run = changed.bundle.by_key["evaluation"]["mlflow_run_id"]
    add = lambda one, _: one.update(value=one["value"] + 0.05)  # noqa: E731
    row(check.METRICS, add, lambda one: one["run_id"] == run and "/all/" in one["name"])(changed)


# ---------------------------------------------------------------- of whole results


def exchanged_arms(changed: Changed) -> None:
    """The folders of two arms change their names."""
    first, second = (
        f"{check.RESULTS}/rl/{changed.bundle.by_key[key]['fingerprint']}/" for key in ("rl/mixed", "rl/phased")
    )
    files = {name: changed.read(name) for place in (first, second) for name in changed.names(starts=place)}
    for name in files:
        changed.remove(name)
    for name, content in files.items():
        other = second if name.startswith(first) else first
        changed.write(other + name.removeprefix(first if other is second else second), content)


def dropped_result(changed: Changed) -> None:
    for name in changed.names(starts=f"{_result(changed)}/"):
        changed.remove(name)


def copied_result(changed: Changed) -> None:
    """A leftover beside a result."""
    place = _result(changed)
    changed.write(f"{place}.old.1/manifest.json", changed.read(f"{place}/manifest.json"))


def run_left_out(changed: Changed) -> None:
    """One of the runs that stand behind the chain."""
    tries = changed.json(check.TRIES)
    changed.write_json(check.TRIES, {**tries, "runs": tries["runs"][1:]})


def result_of_another_chain(changed: Changed) -> None:
    """A result that nothing uses, whole in itself."""
    manifest = changed.bundle.by_key["base"]
    other = {**manifest, "payload": {**manifest["payload"], "stage": "sft", "inputs": {}}, "inputs": {}, "files": {}}
    other["fingerprint"], other["content"] = check.sha256(check.canonical(other["payload"]))[:32], check.content_of({})
    other["seal"] = check.seal_of(other)
    changed.write_json(f"{check.RESULTS}/sft/{other['fingerprint']}/manifest.json", other)


# ---------------------------------------------------------------- skill


def relist(changed: Changed) -> None:
    """The bag's lists of digests follow the files."""
    for listing, is_payload in ((check.BAG_FILES, True), (check.BAG_TAGS, False)):
        digests = changed.bundle.digests
        names = [name for name in digests if name.startswith("data/") == is_payload]
        names = [name for name in names if name not in (check.BAG_TAGS, check.SIGNATURE)]
        changed.write(listing, "".join(f"{digests[name]}  {name}\n" for name in sorted(names)).encode())


def reseal(changed: Changed) -> None:
    """Each manifest whose files, or itself, were changed is written again, with the digests of the files that there are."""
    bundle = changed.bundle
    for place, manifest in bundle.manifests.items():
        again = _sealed(manifest, place, bundle)
        if again != manifest:
            changed.write_json(f"{place}/manifest.json", again)


def _sealed(manifest: Any, place: str, bundle: check.Bundle) -> Any:
    there = {name.removeprefix(f"{place}/"): name for name in bundle.digests if name.startswith(f"{place}/")}
    files = {
        name: {"bytes": bundle.sizes[path], "sha256": bundle.digests[path]}
        for name, path in there.items()
        if name != "manifest.json"
    }
    again = {**manifest, "files": files, "content": check.content_of(files)}
    return {**again, "seal": check.seal_of(again)}


def reseal_and_relist(changed: Changed) -> None:
    reseal(changed)
    relist(changed)


def forge(changed: Changed) -> None:
    """Seals, the inputs that results name, statements, numbers, records, pages and root digest: all say the same again."""
    _republish(changed)
    _reseal_all(changed)
    bundle = changed.bundle
    seals = {one["fingerprint"]: one["seal"] for one in bundle.by_key.values()}
    for key, manifest in bundle.by_key.items():
        changed.write_json(f"{check.STATEMENTS}/{key.replace('/', '-')}.json", check.statement_of(manifest, seals))
    changed.write_json(f"{check.STATEMENTS}/verdicts.json", check.verdicts_statement(bundle.by_key, bundle.digests))
    changed.write_json(check.CHAIN, check.chain_of(changed.json(check.CHAIN)["chain"], bundle.by_key))
    for name in (check.README, check.REPORT, check.BAG, check.BAG_INFO, check.BAG_FILES, check.BAG_TAGS):
        changed.write(name, changed.read(name).replace(bundle.root.encode(), check.NO_ROOT.encode()))
    _reclose(changed)


def _reseal_all(changed: Changed) -> None:
    """Inputs first, so that each result names the bytes and the seals that the ones before it have; none had another one before."""
    bundle = changed.bundle
    for name in [name for name in bundle.digests if name.startswith(f"{check.EARLIER}/")]:
        changed.remove(name)
    waiting, contents, seals = dict(bundle.manifests), {}, {}
    while waiting:
        place = next(one for one, manifest in waiting.items() if _inputs(manifest) <= contents.keys())
        manifest = waiting.pop(place)
        for entry in manifest["inputs"].values():
            entry["content"] = contents.get(entry.get("fingerprint"), entry["content"])
            if "seal" in entry:
                entry["seal"] = seals[entry["fingerprint"]]
        again = _sealed(manifest, place, bundle)
        contents[again["fingerprint"]], seals[again["fingerprint"]] = again["content"], again["seal"]
        changed.write_json(f"{place}/manifest.json", again)


def _inputs(manifest: Any) -> set[str]:
    """Fingerprints of the results that it was made from."""
    return {entry["fingerprint"] for entry in manifest["inputs"].values() if "stage" in entry}


def _reclose(changed: Changed) -> None:
    """The root digest and the bag's files as `ring bundle` writes them."""
    is_slim = changed.bundle.is_slim
    for name in (check.BAG, check.BAG_INFO, check.BAG_FILES, check.BAG_TAGS):
        (changed.folder / name).unlink()  # they were kept above, to be put back
    close_bundle(changed.folder, is_slim=is_slim)


def _republish(changed: Changed) -> None:
    """Scores, tables, metrics, records and README follow the verdicts."""
    bundle = changed.bundle
    results, compared = bundle.evaluation.results(), bundle.evaluation.comparisons()
    path = bundle.result_file("evaluation", "tables.json")
    tables = changed.json(path)
    old = check.score_tables(changed.json(bundle.result_file("evaluation", "results.json")), tables["comparisons"])
    for one in tables["results"]:
        one.update(results[f"{one['model']}/{one['group']}/{one['metric']}"])
    for one in tables["comparisons"]:
        one.update(compared[f"{one['model']} - {one['against']}/{one['group']}/{one['metric']}"])
    counts = Counter(one["status"] for one in bundle.evaluation.samples)
    tables["verdicts"] = [{"status": name, "count": count} for name, count in sorted(counts.items())]
    place = bundle.result_file("evaluation", "manifest.json")
    manifest = changed.json(place)
    manifest["metrics"] |= {name: one["value"] for name, one in results.items()}
    manifest["metrics"] |= {name: one["difference"] for name, one in compared.items()}
    final = manifest["metrics"] | {
        f"{name}/{end}": one[end] for name, one in results.items() for end in ("low", "high")
    }
    named = {name.replace("@", "_at_"): value for name, value in final.items()}
    recorded = bundle.rows(check.METRICS)
    for one in recorded:
        one["value"] = named.get(one["name"], one["value"])
    changed.write_json(bundle.result_file("evaluation", "results.json"), results)
    changed.write_json(path, tables)
    changed.write_json(place, manifest)
    changed.write_rows(check.METRICS, recorded)
    readme = changed.read(check.README).decode()
    changed.write(check.README, readme.replace(old, check.score_tables(results, tables["comparisons"])).encode())


SKILLS: dict[str, Callable[[Changed], None]] = {
    "plain": lambda _: None,
    "listed": relist,
    "resealed": reseal_and_relist,
    "forged": forge,
}


# ---------------------------------------------------------------- the kinds

_EVALUATION = "evaluation:manifest.json"
KINDS: dict[str, tuple[str, Kind]] = {  # what was changed -> by what skill, and how
    "a bit of some weights": ("plain", flipped(ends=".safetensors")),
    "weights cut short": ("plain", cut(".safetensors")),
    "weights of two models exchanged": ("plain", swapped(f"{check.RESULTS}/", ".safetensors")),
    "a bit of curated rows": ("plain", flipped(f"{check.RESULTS}/curation/", ".parquet")),
    "a byte after a table": ("plain", appended(ends=".parquet")),
    "a bit of the evaluation's samples": ("plain", flipped(ends="/samples.parquet")),
    "rollouts of two steps exchanged": ("plain", swapped(f"{check.RESULTS}/rl/", ".parquet")),
    "a bit of any file": ("plain", flipped()),
    "check.py": ("plain", appended("check.py")),
    "a line of the source": ("plain", appended(f"{check.SOURCE}/", ".py")),
    "a file of the source removed": ("plain", removed(f"{check.SOURCE}/")),
    "a module added to the source": ("plain", added(f"{check.SOURCE}/stages/extra.py")),
    "a file removed": ("plain", removed("data/")),
    "a file added at the top": ("plain", added("notes.txt")),
    "a file added to the data": ("plain", added("data/more.json")),
    "an empty folder": ("plain", lambda changed: changed.special("data/empty", Path.mkdir)),
    "a link in place of a file": ("plain", linked),
    "a link to a folder": ("plain", linked_folder),
    "a pipe": ("plain", lambda changed: changed.special("data/pipe", os.mkfifo)),
    "a line of the list of files removed": ("plain", unlisted(check.BAG_FILES)),
    "a line of the list of other files removed": ("plain", unlisted(check.BAG_TAGS)),
    "a file listed twice": ("plain", listed_twice),
    "the version of the bag": ("listed", said(check.BAG, "1.0", "0.97")),
    "bag-info says that weights are left out": ("listed", said(check.BAG_INFO, "nothing", "weights and rollouts")),
    "bag-info names another root digest": ("listed", number_in(check.BAG_INFO, lambda changed: changed.bundle.root)),
    "README names another root digest": ("listed", number_in(check.README, lambda changed: changed.bundle.root)),
    "a number in README": ("listed", number_in(check.README, _score)),
    "a number in the report": ("listed", number_in(check.REPORT, _shown_score)),
    "a sentence added to the report": ("listed", appended(check.REPORT)),
    "a run left out of the tries": ("listed", run_left_out),
    "another number of tries": ("listed", said(check.TRIES, "of exactly this chain", "0 of exactly this chain")),
    "a file added to a result": ("listed", added("RESULT/extra.json")),
    "a second manifest inside a result": ("listed", added("RESULT/model/manifest.json")),
    "resume state inside a result": ("listed", added("RESULT/.state/resume.json")),
    "a result copied beside itself": ("listed", copied_result),
    "a result of no chain": ("listed", result_of_another_chain),
    "a result removed": ("listed", dropped_result),
    "two arms exchanged": ("listed", exchanged_arms),
    "a verdict turned": ("listed", row(check.SAMPLES, _turn)),
    "a verdict's score": ("listed", row(check.SAMPLES, _partial)),
    "a verdict dropped": ("listed", rows(check.SAMPLES, _drop)),
    "a verdict doubled": ("listed", rows(check.SAMPLES, _double)),
    "the order of two verdicts": ("listed", rows(check.SAMPLES, _exchange)),
    "a verdict given to another model": ("listed", row(check.SAMPLES, _other_model)),
    "an extracted answer": ("listed", row(check.SAMPLES, lambda one, _: one.update(extracted="42!"))),
    "a problem's level": ("listed", row(check.PROBLEMS, lambda one, _: one.update(level=(one["level"] or 0) + 1))),
    "a problem's domain": ("listed", row(check.PROBLEMS, lambda one, _: one.update(domain="history"))),
    "problems that are drawn together": ("listed", row(check.PROBLEMS, lambda one, _: one.update(cluster="cluster x"))),
    "the levels that were trained on": ("listed", document(check.FACTS, _in("trained_levels", to=[9]))),
    "a score in results.json": ("resealed", document("evaluation:results.json", _end("value", 0.01))),
    "an interval in results.json": ("resealed", document("evaluation:results.json", _end("low", -1e-6))),
    "a number of problems": ("resealed", document("evaluation:results.json", _end("n", 1))),
    "a difference in the tables": ("resealed", document("evaluation:tables.json", _compared("difference", 0.02))),
    "a p in the tables": ("resealed", document("evaluation:tables.json", _compared("p", -1e-6))),
    "a smallest difference": ("resealed", document("evaluation:tables.json", _compared("unequal", 1))),
    "a metric of the evaluation": ("resealed", document(_EVALUATION, _metric)),
    "a metric of SFT": ("resealed", document("sft:manifest.json", _metric)),
    "the clock of a result": ("resealed", document("*:manifest.json", _in("made_at", to="2020-01-01T00:00:00Z"))),
    "the clock of a result, no seal": ("listed", document("*:manifest.json", _in("made_at", to="2020-01-01T00:00:00Z"))),
    "the configuration of a result": ("resealed", document("*:manifest.json", _in("payload", "config", "seed", to=77))),
    "the commit of a result": ("resealed", document("*:manifest.json", _in("code", "commit", to="0" * 40))),
    "the processor of a result": ("resealed", document("*:manifest.json", _in("hardware", "kind", to="another"))),
    "a note of a result": ("resealed", document("*:manifest.json", _in("notes", to=["all is well"]))),
    "the code digest of a result": ("resealed", document("*:manifest.json", _in("payload", "code", to="0" * 64))),
    "a seal": ("listed", document("*:manifest.json", _in("seal", to="0" * 64))),
    "the bytes that an input had": ("resealed", document("report:manifest.json", _input)),
    "weights, resealed": ("resealed", flipped(ends=".safetensors")),
    "samples, resealed": ("resealed", flipped(ends="/samples.parquet")),
    "the data card, resealed": ("resealed", appended(ends="/card.md")),
    "a statement's dependency": ("listed", statement(_material)),
    "a statement's subject": ("listed", statement(lambda one, _: one["subject"].pop())),
    "a statement removed": ("listed", removed(f"{check.STATEMENTS}/")),
    "a statement added": ("listed", added(f"{check.STATEMENTS}/more.json")),
    "a final metric in the records": ("listed", recorded_metric),
    "a metric of a step in the records": ("listed", row(check.METRICS, lambda one, _: one.update(step=one["step"] + 1))),
    "a run's status in the records": ("listed", row(check.RUNS, lambda one, _: one.update(status="FAILED"))),
    "a parameter in the records": ("listed", row(f"{check.RECORDS}/params.jsonl", lambda one, _: one.update(value=one["value"] + "0"))),
    "a value of the recipe": ("listed", document(check.RECIPE, _in("seed", to="77"))),
    "a package of the environment": ("listed", document(check.ENVIRONMENT, _in("packages", 0, "version", to="0.0.1"))),
    "another chain in chain.json": ("listed", document(check.CHAIN, _in("chain", to="f" * 32))),
    "forged: weights": ("forged", flipped(ends=".safetensors")),
    "forged: a verdict and all that follows from it": ("forged", row(check.SAMPLES, _turn)),
    "forged: an extracted answer": ("forged", row(check.SAMPLES, lambda one, _: one.update(extracted="42!"))),
    "forged: the data card": ("forged", appended(ends="/card.md")),
    "forged: the clock": ("forged", document("*:manifest.json", _in("made_at", to="2020-01-01T00:00:00Z"))),
    "forged: the source": ("forged", appended(f"{check.SOURCE}/", ".py")),
    "forged: a step of the records": ("forged", row(check.METRICS, lambda one, _: one.update(step=one["step"] + 1))),
    "forged: a sentence of README": ("forged", appended(check.README)),
    "forged: check.py": ("forged", appended("check.py")),
}  # fmt: skip


# ---------------------------------------------------------------- tries


@dataclass(frozen=True, slots=True)
class Try:
    """One change, and what found it."""

    kind: str
    skill: str
    found_by: tuple[str, ...]  # names of checks; `--root` for the digest that was kept elsewhere


@contextmanager
def copied(bundle: Path) -> Iterator[Path]:
    """A copy that may be changed."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(bundle, Path(folder) / "bundle"))


def tamper(folder: Path, *, root: str, num: int = TRIES, seed: int = 0) -> Iterator[Try]:
    """Each kind in turn, until there are `num`; the folder is as it was after each."""
    names = [*KINDS]
    for number in range(num):
        kind = names[number % len(names)]
        skill, make = KINDS[kind]
        changed = Changed(folder, random.Random(f"{seed} {number}"))
        try:
            make(changed)
            SKILLS[skill](changed)
            yield Try(kind, skill, found_by(folder, root=root))
        finally:
            changed.restore()


def found_by(folder: Path, *, root: str) -> tuple[str, ...]:
    """The checks that say that something does not hold."""
    bundle = check.Bundle(folder)
    found = [name for name, one in check.CHECKS.items() if check.faults_of(bundle, only=name)]
    return (*found, *(["--root"] if not found and check.faults_of(bundle, root=root) else []))


def table(tries: Sequence[Try]) -> str:
    """Markdown, a row a kind."""
    lines = ["| changed | skill | tries | found | by |", "| --- | --- | ---: | ---: | --- |"]
    for kind in dict.fromkeys(one.kind for one in tries):
        of_kind = [one for one in tries if one.kind == kind]
        by = Counter(name for one in of_kind for name in one.found_by)
        num_found = sum(bool(one.found_by) for one in of_kind)
        lines.append(f"| {kind} | {of_kind[0].skill} | {len(of_kind)} | {num_found} | {', '.join(by)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks tampering", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("root", nargs="?", help="root digest; default: the bundle's")
    parser.add_argument("--tries", type=int, default=TRIES)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    with copied(asked.bundle) as folder:
        untouched = check.Bundle(folder)
        root = asked.root or untouched.root
        if faults := check.faults_of(untouched, root=root):
            sys.stderr.write("the bundle does not hold as it is:\n" + "\n".join(faults[:20]) + "\n")
            return 2
        tries = []
        for one in tamper(folder, root=root, num=asked.tries, seed=asked.seed):
            tries.append(one)
            sys.stderr.write(f"{len(tries)} {one.kind}: {', '.join(one.found_by) or 'NOT FOUND'}\n")
    missed = [one for one in tries if not one.found_by]
    sys.stdout.write(f"{table(tries)}\n\n{len(tries)} changes of {len(KINDS)} kinds, {len(missed)} not found\n")
    return 1 if missed else 0
