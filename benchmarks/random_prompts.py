"""Prompts of random tokens for benchmarks: their cost is that of real ones, and no data set is needed."""

import random


def random_prompts(count: int, *, vocab_size: int, min_tokens: int, max_tokens: int, seed: int = 0) -> list[list[int]]:
    """`count` rows of ids 1..vocab_size - 1 (0 ends a response), with lengths uniform from min_tokens to max_tokens."""
    generator = random.Random(seed)
    lengths = [generator.randint(min_tokens, max_tokens) for _ in range(count)]
    return [[generator.randrange(1, vocab_size) for _ in range(length)] for length in lengths]
