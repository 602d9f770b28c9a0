"""The base model: a released folder, checked and referenced, or a stand-in for Ling-lite-1.5-base trained on easy problems.

In: `curation` (base.parquet, and the texts of the other training splits for the vocabulary). Out: model/ with steps.jsonl and
the table `epochs`, or reference.json {folder, files: name -> sha256} for a released folder, of which no byte is copied.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from data.domains import DOMAINS
from data.schema import PROBLEM_SCHEMA, problems_from_table, read_table
from data.sources.procedural import PHRASES
from ring_model.checkpoint import check_folder
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import BailingScorer
from ring_model.scorers import is_ours
from ring_model.tokenizer import Tokenizer, build_bpe_tokenizer, build_word_tokenizer
from stages.config import BaseConfig, ModelSizes, Runtime, Vocabulary
from stages.records.artifact import list_files, write_json
from stages.sampling.prompting import REFERENCE
from stages.seeds import derive_seed
from stages.sft.run import rows_of
from stages.sft.training import SupervisedJob, train
from stages.stage import StageLog, StageRecord

_VOCABULARY_SPLITS = ("base", "sft", "validation", "rl")  # held-out text gives no word


def run(config: BaseConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog) -> StageRecord:
    """Refer to the released folder that the recipe names, or train the stand-in. Raises ValueError for a broken folder."""
    if config.checkpoint is not None:
        return _refer(Path(config.checkpoint), out=out, log=log)
    tokenizer = _tokenizer(config.vocabulary, inputs["curation"])
    job = SupervisedJob(
        BailingScorer(_initialised(config, tokenizer)),
        tokenizer,
        config.training,
        rows=rows_of(inputs["curation"] / "base.parquet", tokenizer, config.training),
        validation=None,
        seed=derive_seed(config.seed, "base"),
        keeps_checkpoints=False,
    )
    return train(job, runtime=runtime, out=out, log=log)


def _initialised(config: BaseConfig, tokenizer: Tokenizer) -> BailingMoe:
    model = BailingMoe(_model_config(config.model, tokenizer))
    return initialise(model, seed=derive_seed(config.seed, "base", "weights"))


def _tokenizer(vocabulary: Vocabulary, curation: Path) -> Tokenizer:
    if vocabulary.kind == "bpe":
        suffixes = [domain.prompt_suffix for domain in DOMAINS.values()]
        return build_bpe_tokenizer([*_texts(curation), *suffixes], vocab_size=vocabulary.vocab_size)
    return build_word_tokenizer(_texts(curation), phrases=_phrases())


def _texts(curation: Path) -> Iterator[str]:
    for split in _VOCABULARY_SPLITS:
        for problem in problems_from_table(read_table(curation / f"{split}.parquet", PROBLEM_SCHEMA)):
            yield problem.prompt
            yield problem.solution


def _phrases() -> list[str]:
    """Texts that are one token: the instruction of each domain, and the fixed parts of generated answers."""
    return [*dict.fromkeys([*(domain.prompt_suffix for domain in DOMAINS.values()), *PHRASES])]


def _model_config(sizes: ModelSizes, tokenizer: Tokenizer) -> BailingMoeConfig:
    return BailingMoeConfig(
        **sizes.model_dump(),
        vocab_size=tokenizer.vocab_size,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )


def _check_other(folder: Path) -> int:
    """Another architecture's folder; returns its parameters."""
    from ring_model.causal_lm import check_causal_lm, count_parameters  # imports transformers, which takes seconds

    check_causal_lm(folder)
    return count_parameters(folder)


def _refer(folder: Path, *, out: Path, log: StageLog) -> StageRecord:
    parameters = check_folder(folder) if is_ours(folder) else _check_other(folder)
    Tokenizer.from_folder(folder)
    files = list_files(folder)
    write_json(out / REFERENCE, {"folder": str(folder.absolute()), "files": files})
    log.message(f"{folder}: {parameters:,} parameters, every tensor in its place")
    return StageRecord(metrics={"model/parameters": float(parameters)})
