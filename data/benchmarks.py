"""Evaluation sets that a recipe may name: where they live, what they measure, how often each problem is sampled.

Curation treats the `eval` rows of a local data folder whose `source` is one of a benchmark's `local_sources` as the benchmark.
The paper's sets come first (4.1.2); sample counts marked (inferred) are the smallest that fit the paper's decimals.
"""

import difflib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One evaluation set."""

    name: str  # as recipes write it
    repo: str  # data set on the hub; empty where the origin is a repository
    revision: str | None  # commit that public evaluation code pins (we could not fetch it); None: we found none
    split: str  # of the hub data set
    domain: str
    samples: int  # per problem, in the paper's protocol
    metric: str  # `pass@1` is the mean over the samples; `rating` needs contest standings, which we do not have
    local_sources: tuple[str, ...] = ()  # values of `source` that mark its rows in a local folder; none: only its name

    @property
    def sources(self) -> tuple[str, ...]:
        """Values of `source` by which local rows belong to it."""
        return self.local_sources or (self.name,)


_ALL = (
    # the paper's
    Benchmark(
        "math500", "HuggingFaceH4/MATH-500", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be", "test", "math", 4, "pass@1"
    ),  # samples inferred
    Benchmark(
        "aime24", "HuggingFaceH4/aime_2024", "2fe88a2f1091d5048c0f36abc874fb997b3dd99a", "train", "math", 64, "pass@1"
    ),  # samples inferred
    Benchmark(
        "aime25", "math-ai/aime25", "563bb8404243c5f09de6ec262f2db674fe5bce9b", "test", "math", 64, "pass@1"
    ),  # samples inferred
    Benchmark(
        "cnmo24", "opencompass/LiveMathBench", None, "v202412_CNMO_en", "math", 64, "pass@1"
    ),  # samples inferred; gated
    Benchmark("livemathbench", "opencompass/LiveMathBench", None, "v202412_all_en", "math", 1, "pass@1"),  # gated
    Benchmark(
        "livecodebench",
        "livecodebench/code_generation_lite",
        "0fe84c3912ea0c4d4a78037083943e8f0c4dd505",
        "test",
        "code",
        8,
        "pass@1",
    ),  # samples inferred
    Benchmark("codeforces", "Qwen/CodeElo", None, "test", "code", 8, "rating", ("codeforces", "codeforces_2024")),
    Benchmark("gpqa_diamond", "Idavidrein/gpqa", None, "train", "science", 16, "pass@1"),  # samples inferred; gated
    Benchmark(
        "olympiadbench_math_en",
        "Hothan/OlympiadBench",
        "91184b52131e7fc9455fef848035173aea8cc01a",
        "train",
        "math",
        1,
        "pass@1",
        ("olympiadbench", "olympiadbench_math_en"),
    ),
    Benchmark("minerva_math", "math-ai/minervamath", None, "test", "math", 1, "pass@1"),
    # further open sets
    Benchmark("gsm8k", "openai/gsm8k", "740312add88f781978c0658806c59bc2815b9866", "test", "math", 1, "pass@1"),
    Benchmark("mgsm_zh", "juletxara/mgsm", "b2f13d426afe3be8d69a7e739b36724db8b66bbc", "test", "math", 1, "pass@1"),
    Benchmark(
        "amc", "AI-MO/aimo-validation-amc", "69d78a4a2c840e82d69af6bc742bda09005f6316", "train", "math", 16, "pass@1"
    ),
    Benchmark("hmmt25", "MathArena/hmmt_feb_2025", None, "train", "math", 16, "pass@1"),
    Benchmark("cn_math_2024", "", None, "", "math", 16, "pass@1"),
    Benchmark("kaoyan", "", None, "", "math", 1, "pass@1"),
    Benchmark(
        "olymmath", "RUC-AIBOX/OlymMATH", "5f83d12e63ee3267f35044461a6cebad58ec3be1", "test", "math", 8, "pass@1"
    ),
    Benchmark("gaokao_math", "", None, "", "math", 1, "pass@1"),
    Benchmark("gaokao2023en", "", None, "", "math", 1, "pass@1"),
    Benchmark("gaokao2024_mix", "", None, "", "math", 1, "pass@1"),
    Benchmark("agieval_gaokao_math", "", None, "", "math", 1, "pass@1"),
    Benchmark("theoremqa", "TIGER-Lab/TheoremQA", None, "test", "science", 1, "pass@1"),
    Benchmark(
        "humaneval", "openai/openai_humaneval", "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544", "test", "code", 1, "pass@1"
    ),
    Benchmark(
        "mbpp", "google-research-datasets/mbpp", "4bb6404fdc6cacfda99d4ac4205087b89d32030c", "test", "code", 1, "pass@1"
    ),
    Benchmark("leetcode_test", "newfacade/LeetCodeDataset", None, "test", "code", 1, "pass@1"),
    Benchmark("code_contests_test", "deepmind/code_contests", None, "test", "code", 1, "pass@1"),
    Benchmark("gaokao_science", "", None, "", "science", 1, "pass@1"),
    Benchmark("scibench", "xw27/scibench", None, "train", "science", 1, "pass@1"),
    Benchmark("abench_physics", "", None, "", "science", 1, "pass@1"),
)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name. Raises ValueError that offers the nearest name."""
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    near = difflib.get_close_matches(name, BENCHMARKS, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown benchmark {name!r}{hint} Known: {', '.join(BENCHMARKS)}")
