"""Evaluation sets that a recipe or a command may name: where they live, which rows they are, what they measure, how often each is sampled.

The paper's sets come first (4.1.2); sample counts marked (inferred) are the smallest that fit the paper's decimals. Curation treats the
`eval` rows of a local data folder as a benchmark where `Benchmark.owns` says so; `loading` reads them, or the public form of the set.

This module imports neither the judge nor pyarrow: recipes are checked against it.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Prompt = Literal["question", "choices", "program"]
Metric = Literal["pass@1", "rating", "points"]


@dataclass(frozen=True, slots=True)
class Filter:
    """The rows whose field, as text, is one of `among`, or lies from `low` to `high`: both ends belong to it, and dates are ISO."""

    field: str
    among: tuple[str, ...] = ()
    low: str = ""
    high: str = ""

    def keeps(self, fields: Mapping[str, Any]) -> bool:
        """Whether a row with these fields belongs. Raises ValueError for a row without the field."""
        value = fields.get(self.field)
        if value is None:
            raise ValueError(
                f"has no {self.field!r}, by which rows are chosen; it has {', '.join(fields) or 'nothing'}"
            )
        text = str(value)
        if self.among:
            return text in self.among
        return self.low <= text and text[: len(self.high)] <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One evaluation set."""

    name: str  # as recipes write it
    title: str  # as people call it
    domain: str
    samples: int = 1  # per problem, in the paper's protocol
    metric: Metric = (
        "pass@1"  # the mean over the samples; `rating` needs contest standings, `points` the points of each question
    )
    prompt: Prompt = (
        "question"  # what stands before the domain's instruction: `choices` are lettered below their question
    )
    policy: tuple[tuple[str, bool | int], ...] = ()  # fields of `data.domains.Policy` that differ from the default
    cluster: tuple[
        str, ...
    ] = ()  # fields of `meta` that the problems of one cluster share; none: each problem is its own
    full_points: int | None = None  # of a whole paper, with metric `points`; None: what its questions give
    local_sources: tuple[str, ...] = ()  # values of `source` that mark its rows in a local folder, beside its name
    local_rows: Filter | None = None  # of those, by `meta`; rows under its name may lack the field
    repo: str = ""  # data set on the hub; empty: on none
    revision: str | None = None  # commit that public evaluation code pins (we could not fetch it); None: we found none
    subsets: tuple[str, ...] = ("",)  # configurations of the data set, one after the other
    files: tuple[str, ...] = ()  # JSON lines of the repository, where it has no configuration that `datasets` opens
    split: str = ""  # of the hub data set
    form: str = ""  # key of `forms.FORMS`: how a row of the public form becomes a problem; empty: no loader
    rows: Filter | None = None  # of the public form
    licence: str = "unknown"
    is_gated: bool = False  # the hub asks for consent to terms

    @property
    def sources(self) -> tuple[str, ...]:
        """Values of `source` by which local rows belong to it."""
        return tuple(dict.fromkeys((*self.local_sources, self.name)))

    def owns(self, source: str, meta: Mapping[str, Any]) -> bool:
        """Whether a local row with this `source` and `meta` is one of its rows."""
        if source not in self.sources:
            return False
        if self.local_rows is None:
            return True
        return self.local_rows.keeps(meta) if self.local_rows.field in meta else source == self.name

    def cluster_of(self, problem_id: str, meta: Mapping[str, Any]) -> str:
        """The cluster that a problem is drawn in, for intervals: its contest or exam paper; else the problem alone."""
        if not self.cluster or not all(field in meta for field in self.cluster):
            return problem_id
        return "/".join(str(meta[field]) for field in self.cluster)


OWN_SAMPLES = 4  # responses to each problem of a set of one's own beside the greedy one, as MATH-500 has
_LCB_WINDOW = Filter("contest_date", low="2024-08-01", high="2025-01-31")

PAPER = (
    Benchmark(
        name="math500", title="MATH-500", domain="math", samples=4,  # samples inferred
        repo="HuggingFaceH4/MATH-500", revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be", split="test", form="question", licence="MIT",
    ),
    Benchmark(
        name="aime24", title="AIME 2024", domain="math", samples=64,  # samples inferred
        repo="HuggingFaceH4/aime_2024", revision="2fe88a2f1091d5048c0f36abc874fb997b3dd99a", split="train", form="question",
        licence="statements (c) MAA",
    ),
    Benchmark(
        name="aime25", title="AIME 2025", domain="math", samples=64,  # samples inferred
        repo="math-ai/aime25", revision="563bb8404243c5f09de6ec262f2db674fe5bce9b", split="test", form="question",
        licence="statements (c) MAA",
    ),
    Benchmark(
        name="cnmo24", title="CNMO 2024", domain="math", samples=64,  # samples inferred
        repo="opencompass/LiveMathBench", subsets=("v202412_CNMO_en",), split="test", form="question", is_gated=True,
    ),
    Benchmark(
        name="livemathbench", title="LiveMathBench (2024-12, English)", domain="math",
        repo="opencompass/LiveMathBench", subsets=("v202412_CNMO_en", "v202412_CCEE_en", "v202412_AMC_en", "v202412_WLPMC_en"),
        split="test", form="question", is_gated=True,
    ),
    Benchmark(
        name="livecodebench", title="LiveCodeBench (2024-08 to 2025-01)", domain="code", samples=8, prompt="program",  # samples inferred
        cluster=("contest_id",), local_rows=_LCB_WINDOW,
        repo="livecodebench/code_generation_lite", revision="0fe84c3912ea0c4d4a78037083943e8f0c4dd505", split="test",
        files=("test.jsonl", "test2.jsonl", "test3.jsonl", "test4.jsonl", "test5.jsonl"),  # release_v5
        form="livecodebench", rows=_LCB_WINDOW,
    ),
    Benchmark(
        name="codeforces", title="Codeforces (Div. 2)", domain="code", samples=8, metric="rating", prompt="program", cluster=("contest",),
        local_sources=("codeforces", "codeforces_2024"),  # of all divisions: the paper does not name its 14 contests
        repo="Qwen/CodeElo", split="test", form="codeelo", rows=Filter("div", among=("Div. 2",)), licence="statements (c) Codeforces",
    ),
    Benchmark(
        name="gpqa_diamond", title="GPQA Diamond", domain="science", samples=16, prompt="choices",  # samples inferred
        repo="Idavidrein/gpqa", subsets=("gpqa_diamond",), split="train", form="gpqa", licence="CC BY 4.0", is_gated=True,
    ),
    Benchmark(
        name="olympiadbench_math_en", title="OlympiadBench (mathematics, English, text only)", domain="math",
        local_sources=("olympiadbench", "olympiadbench_math_en"),
        repo="Hothan/OlympiadBench", revision="91184b52131e7fc9455fef848035173aea8cc01a", subsets=("OE_TO_maths_en_COMP",), split="train",
        form="olympiadbench", licence="MIT",
    ),
    Benchmark(
        name="minerva_math", title="MinervaMath", domain="math",
        repo="math-ai/minervamath", split="test", form="question", licence="CC BY-NC-SA 4.0",
    ),
    Benchmark(
        name="gaokao25_math", title="Gaokao 2025, mathematics", domain="math", metric="points", full_points=150, form="gaokao",
    ),  # of the announcement, as the next one; no repository that we know has the papers
    Benchmark(
        name="gaokao25_physics", title="Gaokao 2025, physics", domain="science", metric="points",
        policy=(("partial_credit", True),), form="gaokao",
    ),
)  # fmt: skip
FURTHER = (
    Benchmark(
        name="gsm8k", title="GSM8K", domain="math",
        repo="openai/gsm8k", revision="740312add88f781978c0658806c59bc2815b9866", subsets=("main",), split="test", form="question",
        licence="MIT",
    ),
    Benchmark(
        name="mgsm_zh", title="MGSM, Chinese", domain="math",
        repo="juletxara/mgsm", revision="b2f13d426afe3be8d69a7e739b36724db8b66bbc", subsets=("zh",), split="test", form="question",
        licence="CC BY-SA 4.0",
    ),
    Benchmark(
        name="amc", title="AMC 12, 2022 and 2023", domain="math", samples=16,
        repo="AI-MO/aimo-validation-amc", revision="69d78a4a2c840e82d69af6bc742bda09005f6316", split="train", form="question",
        licence="statements (c) MAA",
    ),
    Benchmark(
        name="hmmt25", title="HMMT, February 2025", domain="math", samples=16,
        repo="MathArena/hmmt_feb_2025", split="train", form="question", licence="MIT",
    ),
    Benchmark(name="cn_math_2024", title="Chinese olympiads 2024", domain="math", samples=16, licence="MIT"),
    Benchmark(name="kaoyan", title="Chinese graduate entrance exams, mathematics", domain="math", licence="MIT"),
    Benchmark(
        name="olymmath", title="OlymMATH", domain="math", samples=8,
        repo="RUC-AIBOX/OlymMATH", revision="5f83d12e63ee3267f35044461a6cebad58ec3be1",
        subsets=("en-easy", "en-hard", "zh-easy", "zh-hard"), split="test", form="question", licence="MIT",
    ),
    Benchmark(
        name="gaokao_math", title="Gaokao 2010 to 2022, mathematics", domain="math", metric="points", full_points=150,
        cluster=("year", "paper"), form="gaokao", licence="Apache-2.0",
    ),
    Benchmark(
        name="gaokao_physics", title="Gaokao 2010 to 2022, physics", domain="science", metric="points",
        policy=(("partial_credit", True),), cluster=("year", "paper"), local_sources=("gaokao_science",),
        local_rows=Filter("subject", among=("physics",)), form="gaokao", licence="Apache-2.0",
    ),  # physics of the rows of gaokao_science: a curation that names both has them in the one that it names first
    Benchmark(name="gaokao2023en", title="Gaokao 2023, mathematics, in English", domain="math", licence="MIT"),
    Benchmark(name="gaokao2024_mix", title="Gaokao 2024, mathematics", domain="math", licence="MIT"),
    Benchmark(name="agieval_gaokao_math", title="AGIEval, Gaokao mathematics", domain="math", licence="MIT"),
    Benchmark(
        name="theoremqa", title="TheoremQA, text only", domain="science",
        repo="TIGER-Lab/TheoremQA", split="test", form="question", licence="MIT",
    ),
    Benchmark(
        name="humaneval", title="HumanEval", domain="code", prompt="program",
        repo="openai/openai_humaneval", revision="7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544", split="test", licence="MIT",
    ),
    Benchmark(
        name="mbpp", title="MBPP", domain="code", prompt="program",
        repo="google-research-datasets/mbpp", revision="4bb6404fdc6cacfda99d4ac4205087b89d32030c", split="test", licence="CC BY 4.0",
    ),
    Benchmark(
        name="leetcode_test", title="LeetCode", domain="code", prompt="program",
        repo="newfacade/LeetCodeDataset", split="test", licence="statements (c) LeetCode",
    ),
    Benchmark(
        name="code_contests_test", title="CodeContests", domain="code", prompt="program",
        repo="deepmind/code_contests", split="test", licence="CC BY 4.0",
    ),
    Benchmark(
        name="gaokao_science", title="Gaokao 2010 to 2022, physics, chemistry, biology", domain="science", metric="points",
        policy=(("partial_credit", True),), cluster=("year", "paper"), form="gaokao", licence="Apache-2.0",
    ),
    Benchmark(
        name="scibench", title="SciBench", domain="science", repo="xw27/scibench", split="train", licence="MIT (from textbooks)",
    ),
    Benchmark(name="abench_physics", title="ABench Physics", domain="science", cluster=("part", "mid"), licence="Apache-2.0"),
)  # fmt: skip
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in (*PAPER, *FURTHER)}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name. Raises ValueError that offers the nearest name."""
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    near = difflib.get_close_matches(name, BENCHMARKS, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown benchmark {name!r}{hint} Known: {', '.join(BENCHMARKS)}")


def measured_set(name: str) -> Benchmark:
    """The benchmark of that name; another name is that of a set of one's own, with the protocol that those have."""
    return BENCHMARKS.get(name) or Benchmark(
        name=name, title="of one's own", domain="", samples=OWN_SAMPLES, licence=""
    )
