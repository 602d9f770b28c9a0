"""Trains a model for two steps of two micro-batches and prints, as JSON, by how much each rank's resident memory grew at most.

usage: memory_script.py CONFIG.json ZERO_STAGE ROWS LENGTH CHECKPOINTS_LAYERS(0|1); alone or under torchrun.
The environment sets MALLOC_MMAP_THRESHOLD_, so that freed arrays go back to the system at once and are counted no longer.
"""

import json
import sys
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[2])]
from ring_model.configuration import BailingMoeConfig  # noqa: E402
from ring_model.engine import Engine, OptimizerSettings, _import_deepspeed  # noqa: E402
from ring_model.modelling import BailingMoe, initialise  # noqa: E402
from ring_model.policy import PackedRows, pack_rows, response_logprobs  # noqa: E402


def resident(name: str) -> int:
    """`VmRSS` or its highest, `VmHWM`, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def rows_of(config: BailingMoeConfig, num_rows: int, length: int, generator: torch.Generator) -> PackedRows:
    tokens = torch.randint(1, config.vocab_size, (num_rows, length), generator=generator).tolist()
    return pack_rows([row[:1] for row in tokens], [row[1:] for row in tokens])


def main(config_file: str, zero_stage: str, num_rows: str, length: str, checkpoints: str) -> None:
    torch.set_num_threads(1)
    _import_deepspeed(uses_gpu=False)
    config = BailingMoeConfig(**json.loads(Path(config_file).read_text()))
    before = resident("VmRSS")
    engine = Engine.start(
        initialise(BailingMoe(config), seed=0),
        optimizer=OptimizerSettings(learning_rate=1e-4),
        zero_stage=int(zero_stage),
        checkpoints_layers=checkpoints == "1",
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        for _ in range(2):
            rows = rows_of(config, int(num_rows), int(length), generator)
            loss = -response_logprobs(engine.model, rows, entropy="none").logprobs_M.sum()
            engine.backward(loss, denominator=float(rows.num_response_tokens))
            del loss
        engine.step()
    growth = engine.all_gather_object(resident("VmHWM") - before)
    if engine.rank == 0:
        sys.stdout.write(f"{json.dumps(growth)}\n")
    engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
