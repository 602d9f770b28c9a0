"""Math-Verify as it comes: its own extraction, units and fallbacks, in processes that are ended when they do not come back."""

import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.pool import Pool

NUM_PROCESSES, SECONDS, PATIENCE_SECONDS = 2, 5, 30


def equal_pairs(pairs: Sequence[tuple[str, str]]) -> Iterator[bool]:
    """Whether it takes each (gold, answer) for equal; what does not come back is not."""
    pool = _pool()
    try:
        for start in range(0, len(pairs), NUM_PROCESSES):
            asked = [pool.apply_async(_equal, (pair,)) for pair in pairs[start : start + NUM_PROCESSES]]
            for one in asked:
                try:
                    yield one.get(timeout=PATIENCE_SECONDS)
                except multiprocessing.TimeoutError:
                    yield False
                    pool.terminate()
                    pool = _pool()
    finally:
        pool.terminate()


def _pool() -> Pool:
    return multiprocessing.get_context("spawn").Pool(NUM_PROCESSES)


def _equal(pair: tuple[str, str]) -> bool:
    from math_verify import parse, verify

    gold, answer = (parse(f"\\boxed{{{text}}}", parsing_timeout=SECONDS) for text in pair)
    return bool(verify(gold, answer, timeout_seconds=SECONDS))
