"""De-duplication (paper 2.3): of rows that are one problem, one stays; every other one names it, so that they are a group.

Which stays is a rule: the set that `source_priority` names first (then the one read first), a row with a solution that ends with its
answer (of samples of one prompt, a right one), one with any solution, the smallest id.
Copies are rows with the same text after normalisation; near ones (character 5-grams, numbers and operators in the same order); and
ones of the same meaning (TF-IDF words, the same numbers in any order, the same answer). Two rows whose answers differ, or whose tests
call other functions, are no near copies, and code rows are copies only if the reference program of each passes the tests of the other.
Where the recipe names a sentence model, it must confirm a copy by meaning.
Rows that differ in their numbers alone are a policy of their own. Where copies of one text give different answers, or solutions that end
with different ones, `agreement` is the share that must agree for the row to stay, with that answer; where two answers are given equally
often, the row goes.

Only rows that share a MinHash band, or a block of numbers and answer, are compared, each with at most `_WINDOW` before it, so time
grows linearly. A row goes only for a row that stays, so likeness is never passed on along a chain.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data.domains.extraction import final_answer
from stages.config import Duplicates
from stages.curation.embeddings import embedding_cosines
from stages.curation.funnel import Funnel, Step
from stages.curation.normalisation import answer_words, comparison_key
from stages.curation.pool import Drop, Pool, origin
from stages.curation.programs import other_tasks
from stages.curation.similarity import WordWeights, cosine
from stages.curation.sketches import NUM_BANDS, shingles, sketch
from stages.sampling.workers import Worker

NAME = "de-duplication"
_WINDOW = 16  # rows of a bucket that a row is compared with
_CHUNK_PAIRS = 4096
_NEAR, _MEANING = "character 5-grams", "words, numbers and answer"
Pairs = np.ndarray  # [n, 2]: global rows, the one that may go and the one that may stay
_Alike = tuple[float, int, str]  # likeness to another row, that row, and the method


@dataclass(frozen=True, slots=True)
class Copy:
    """Why a row goes: the row that stays, how they were found to be one, and how alike they are."""

    of: int
    reason: str
    method: str
    score: float


def drop_duplicates(pool: Pool, rule: Duplicates, funnel: Funnel) -> tuple[Pool, Step]:
    """Find the copies of the whole pool and drop them."""
    if funnel.is_done(NAME, pool):
        return funnel.finish(NAME, pool)
    sketches = _gather(funnel.derive("sketches", sketch, pool, rule))
    order = _preference(pool, rule)
    copies = _same_text(sketches, order)
    disputed = _disputed(copies, sketches, rule)
    alive = np.ones(len(order), bool)
    alive[[*copies, *disputed]] = False
    copies |= _similar(pool, sketches, order, alive, rule, funnel)
    if rule.changed_numbers == "drop":
        alive[[*copies, *disputed]] = False
        copies |= _groups(
            sketches["masked"], order, alive & (sketches["masked"] != 0), "duplicate: numbers changed", "numbers masked"
        )
    return funnel.drop(NAME, pool, _drops(pool, copies, disputed))


def _gather(tables: Iterator[pa.Table]) -> dict[str, np.ndarray]:
    """Columns over all rows; `bands` is [rows, NUM_BANDS]."""
    whole = pa.concat_tables(tables).combine_chunks()
    columns = {name: whole[name].to_numpy() for name in whole.column_names if name != "bands"}
    bands = whole["bands"].chunk(0).flatten().to_numpy() if len(whole) else np.zeros(0, np.uint32)
    return columns | {"bands": bands.reshape(-1, NUM_BANDS)}


def _preference(pool: Pool, rule: Duplicates) -> np.ndarray:
    """Each row's place in the order in which copies are kept, 0 first."""
    ranks = {name: number for number, name in enumerate(rule.source_priority)}
    rows = []
    for batch in pool.batches(["id", "source", "via", "generated", "solution", "answer"]):
        named = zip(*(batch[name].to_pylist() for name in ("via", "source", "generated")), strict=True)
        origins = [origin(via, source, generated=generated) for via, source, generated in named]
        rank = pa.array([ranks.setdefault(name, len(ranks)) for name in origins], pa.int32())
        solved = zip(batch["solution"].to_pylist(), batch["answer"].to_pylist(), strict=True)
        unsolved = pa.array([_unsolved(solution, answer) for solution, answer in solved], pa.int8())
        rows.append(pa.table({"rank": rank, "unsolved": unsolved, "id": batch["id"]}))
    table = pa.concat_tables(rows)
    table = table.append_column("row", pa.array(np.arange(len(table))))
    sorted_rows = table.sort_by([(name, "ascending") for name in ("rank", "unsolved", "id", "row")])["row"].to_numpy()
    order = np.empty(len(table), np.int64)
    order[sorted_rows] = np.arange(len(table))
    return order


def _unsolved(solution: str, answer: str) -> int:
    """2: no solution, 1: one that does not end with the answer, 0: one that does, or of a row that has tests instead."""
    if not solution.strip():
        return 2
    return int(bool(answer.strip()) and answer_words(final_answer(solution) or "") != answer_words(answer))


# ---------------------------------------------------------------- equal hashes


def _same_text(sketches: Mapping[str, np.ndarray], order: np.ndarray) -> dict[int, Copy]:
    everything = np.ones(len(order), bool)
    copies = _groups(sketches["key"], order, everything, "duplicate: same text after normalisation", "normalised text")
    raw = sketches["raw"]
    same = {
        row: Copy(copy.of, "duplicate: same text", "text", 1.0)
        for row, copy in copies.items()
        if raw[row] == raw[copy.of]
    }
    return copies | same


def _groups(keys: np.ndarray, order: np.ndarray, wanted: np.ndarray, reason: str, method: str) -> dict[int, Copy]:
    """Of the wanted rows with one key, all but the preferred one."""
    rows = np.flatnonzero(wanted)
    rows = rows[np.lexsort((order[rows], keys[rows]))]
    starts = np.r_[True, keys[rows][1:] != keys[rows][:-1]] if len(rows) else np.zeros(0, bool)
    first = rows[np.flatnonzero(starts)[np.cumsum(starts) - 1]] if len(rows) else rows
    gone = ~starts
    return {int(row): Copy(int(kept), reason, method, 1.0) for row, kept in zip(rows[gone], first[gone], strict=True)}


def _disputed(copies: Mapping[int, Copy], sketches: Mapping[str, np.ndarray], rule: Duplicates) -> dict[int, str]:
    """Rows that would stay, of whose text too few copies give the same answer, with what there is to say about it.

    A copy with a solution gives the answer with which that ends: several samples of one problem vote on its gold answer.
    """
    given, gold = sketches["given"], sketches["gold"]
    answers: defaultdict[int, list[int]] = defaultdict(list)
    for row, copy in copies.items():
        answers[copy.of].append(int(given[row]))
    found = {}
    for row, others in answers.items():
        counts = Counter(answer for answer in (int(given[row]), *others) if answer)
        most, second, *_ = (*sorted(counts.values(), reverse=True), 0, 0)
        own = counts[int(gold[row])]
        is_open = most == second or own < most
        if counts and rule.agreement and (is_open or most < rule.agreement * counts.total()):
            found[row] = (
                f"{len(counts)} answers in {counts.total()} copies, the most common {most} times, its own {own} times"
            )
    return found


# ---------------------------------------------------------------- similar texts


def _similar(
    pool: Pool,
    sketches: Mapping[str, np.ndarray],
    order: np.ndarray,
    alive: np.ndarray,
    rule: Duplicates,
    funnel: Funnel,
) -> dict[int, Copy]:
    """Rows that are near, or of the same meaning, to one that stays."""
    pairs: dict[str, Pairs] = {}
    if rule.near:
        pairs[_NEAR] = _near_pairs(sketches, order, alive)
    if rule.meaning:
        blocks = sketches["block"]
        pairs[_MEANING] = _unique(_bucket_pairs(blocks, order, np.flatnonzero(alive & (blocks != 0))))
    if not sum(map(len, pairs.values())):
        return {}
    texts = _prompts(pool, np.unique(np.concatenate(list(pairs.values()))))
    weights = WordWeights.of(pool)
    found: defaultdict[int, list[_Alike]] = defaultdict(list)
    for method, least in ((_NEAR, rule.near), (_MEANING, rule.meaning)):
        alike = _alike(method, pairs.get(method, np.zeros((0, 2), np.int64)), least, texts, weights, funnel)
        if method == _MEANING and rule.embeddings:
            alike = _confirmed(alike, texts, rule)
        for row, other, score in alike:
            found[row].append((score, other, method))
    return _settle(_without_other_tasks(pool, found, funnel), order)


def _alike(
    method: str, pairs: Pairs, least: float, texts: Mapping[int, str], weights: WordWeights, funnel: Funnel
) -> list[tuple[int, int, float]]:
    """(row, other, likeness) of the pairs that are alike enough."""
    chunks = [pairs[start : start + _CHUNK_PAIRS].tolist() for start in range(0, len(pairs), _CHUNK_PAIRS)]
    tasks = ((method, [(texts[row], texts[other]) for row, other in chunk], weights) for chunk in chunks)
    scores = funnel.work(_compare, tasks, inline=len(chunks) <= 1)
    return [
        (row, other, score)
        for chunk, found in zip(chunks, scores, strict=True)
        for (row, other), score in zip(chunk, found, strict=True)
        if score >= least
    ]


def _confirmed(
    alike: list[tuple[int, int, float]], texts: Mapping[int, str], rule: Duplicates
) -> list[tuple[int, int, float]]:
    """Those of which a sentence model says the same, too."""
    cosines = embedding_cosines([(texts[row], texts[other]) for row, other, _ in alike], model=rule.embeddings)
    return [pair for pair, cosine_ in zip(alike, cosines, strict=True) if cosine_ >= rule.embedding_cosine]


def _without_other_tasks(pool: Pool, found: Mapping[int, list[_Alike]], funnel: Funnel) -> dict[int, list[_Alike]]:
    """Texts of code rows are alike where their template is, so their programs decide."""
    others = other_tasks(pool, {(row, other) for row, alike in found.items() for _, other, _ in alike}, funnel)
    return {row: [pair for pair in alike if (row, pair[1]) not in others] for row, alike in found.items()}


def _near_pairs(sketches: Mapping[str, np.ndarray], order: np.ndarray, alive: np.ndarray) -> Pairs:
    """Pairs that share a band and their numbers in order, and whose answers do not differ."""
    in_order, bands, answer = sketches["in_order"], sketches["bands"], sketches["answer"]
    rows = np.flatnonzero(alive & (bands[:, 0] != 0)) if len(bands) else np.zeros(0, np.int64)
    found = [_bucket_pairs(bands[:, band].astype(np.uint64) ^ in_order, order, rows) for band in range(NUM_BANDS)]
    pairs = _unique(np.concatenate(found))
    one, other = answer[pairs[:, 0]], answer[pairs[:, 1]]
    return pairs[(one == other) | (one == 0) | (other == 0)]


def _bucket_pairs(keys: np.ndarray, order: np.ndarray, rows: np.ndarray) -> Pairs:
    """Each of the rows with the at most `_WINDOW` preferred ones before it that have its key."""
    rows = rows[np.lexsort((order[rows], keys[rows]))]
    sorted_keys = keys[rows]
    pairs = [np.zeros((0, 2), np.int64)]
    for step in range(1, _WINDOW + 1):
        same = np.flatnonzero(sorted_keys[step:] == sorted_keys[:-step])
        if not len(same):
            break
        pairs.append(np.stack([rows[same + step], rows[same]], axis=1))
    return np.concatenate(pairs)


def _unique(pairs: Pairs) -> Pairs:
    return np.unique(pairs, axis=0) if len(pairs) else pairs


def _prompts(pool: Pool, rows: np.ndarray) -> dict[int, str]:
    """The prompts of some rows."""
    texts: dict[int, str] = {}
    start = 0
    for batch in pool.batches(["prompt"]):
        inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(batch))]
        prompts = batch["prompt"].take(pa.array(inside - start)).to_pylist()
        texts.update(zip(inside.tolist(), prompts, strict=True))
        start += len(batch)
    return texts


def _compare(_worker: Worker, task: tuple[str, Sequence[tuple[str, str]], WordWeights]) -> list[float]:
    """How alike the texts of each pair are."""
    method, raw, weights = task
    pairs = [(comparison_key(one), comparison_key(other)) for one, other in raw]
    if method == _NEAR:
        return [_jaccard(shingles(one), shingles(other)) for one, other in pairs]
    return [cosine(one.split(), other.split(), weights) for one, other in pairs]


def _jaccard(one: set[str], other: set[str]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _settle(found: Mapping[int, list[_Alike]], order: np.ndarray) -> dict[int, Copy]:
    """In the order of preference: a row goes if one that stays is a copy of it; the most alike is named."""
    copies: dict[int, Copy] = {}
    for row in sorted(found, key=lambda row: order[row]):
        stays = [entry for entry in found[row] if entry[1] not in copies]
        if stays:
            score, other, method = max(stays, key=lambda entry: (entry[2] == _NEAR, entry[0], -order[entry[1]]))
            reason = "duplicate: near" if method == _NEAR else "duplicate: same meaning"
            copies[row] = Copy(other, reason, method, score)
    return copies


# ---------------------------------------------------------------- what is dropped


def _drops(pool: Pool, copies: Mapping[int, Copy], disputed: Mapping[int, str]) -> Iterator[list[Drop]]:
    """The drops of each batch. Evidence of a copy is the row that stays in the end."""
    kept = {row: _last(row, copies) for row in copies}
    ids = _ids(pool, set(kept.values()))
    gone = sorted(copies.keys() | disputed.keys())
    start = position = 0
    for batch in pool.batches(["id"]):
        drops = []
        while position < len(gone) and gone[position] < start + len(batch):
            row = gone[position]
            if row in copies:
                drops.append(_copy_drop(row - start, copies[row], ids[kept[row]]))
            else:
                drops.append(Drop(row - start, "answers disagree", disputed[row]))
            position += 1
        yield drops
        start += len(batch)


def _copy_drop(row: int, copy: Copy, other: str) -> Drop:
    evidence = f"{other}, {copy.method} {copy.score:.2f}"
    return Drop(row, copy.reason, evidence, copy.method, "", other, copy.score)


def _last(row: int, copies: Mapping[int, Copy]) -> int:
    """The row that stays: a copy by text may be of a row that goes as a near copy of another."""
    while row in copies:
        row = copies[row].of
    return row


def _ids(pool: Pool, rows: set[int]) -> dict[int, str]:
    ids: dict[int, str] = {}
    start = 0
    for batch in pool.batches(["id"]):
        ids.update({start + n: name for n, name in enumerate(batch["id"].to_pylist()) if start + n in rows})
        start += len(batch)
    return ids
