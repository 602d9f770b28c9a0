"""An arm whose rollouts another engine draws: the journal, the training and the going on are those of any arm."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from stages.sampling.vllm_server import KEY
from tests.stages.conftest import ROOT, Ended, arm_config, arm_job, ended, run_arm, start_arm
from tests.stages.rl.killing import files_of, kill, rows_of, steps_of, wait_for_step

pytestmark = pytest.mark.slow
STAND_IN = ROOT / "tests" / "stages" / "sampling" / "stand_in.py"
OURS = {"max_new_tokens": 12, "chunk_problems": 2, "max_rows": 4}


@contextmanager
def stand_in(*, port: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server that runs already, and its address."""
    program = f"import runpy; runpy.run_path({str(STAND_IN)!r}, run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), KEY: "secret"}
    command = [sys.executable, "-c", program, "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["address"]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, "secret")
        yield


@pytest.fixture(scope="module")
def undisturbed(arm_inputs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory, key: None) -> Ended:
    with stand_in() as (_, address):
        config = arm_config(sampling={**OURS, "engine": "vllm"})
        done = run_arm(config, arm_inputs, tmp_path_factory.mktemp("vllm") / "arm", vllm_address=address)
    assert done.code == 0, done.errors + done.error
    return done


def require_an_arm(out: Path) -> None:
    """Five steps of whole groups, each response once, from the weights before the step, which the trainer has, too."""
    rows, steps = rows_of(out), steps_of(out)
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5]
    keys = list(zip(*(rows[name].to_pylist() for name in ("step", "group", "sample")), strict=True))
    assert keys == sorted(set(keys)) and len(keys) == sum(step["response/count"] for step in steps)
    assert rows["policy_version"].to_pylist() == [step - 1 for step in rows["step"].to_pylist()]
    lengths = [len(tokens) for tokens in rows["token_ids"].to_pylist()]
    assert [len(values) for values in rows["logprobs"].to_pylist()] == lengths
    assert [len(values) for values in rows["reference_logprobs"].to_pylist()] == lengths
    assert sum(rows["kept_tokens"].to_pylist()) == steps[-1]["tokens/trained"] > 0
    assert all(step["mismatch/max_abs_difference"] < 1e-4 for step in steps if "mismatch/max_abs_difference" in step)
    assert (out / "model" / "model.safetensors").exists()


def test_an_arm_trains_on_what_a_server_draws(undisturbed: Ended) -> None:
    require_an_arm(undisturbed.out)
    assert all("policy/entropy" not in step for step in steps_of(undisturbed.out))
    logged = [event["values"] for event in undisturbed.events if event["event"] == "metrics"]
    assert [values["sampler/weights_opened"] for values in logged if values.get("sampler/requests")] == [1.0] * 5


def test_an_arm_trains_on_what_transformers_draws(arm_inputs: Mapping[str, Path], tmp_path: Path) -> None:
    done = run_arm(arm_config(sampling={**OURS, "engine": "transformers"}), arm_inputs, tmp_path / "arm")
    assert done.code == 0, done.errors + done.error
    require_an_arm(done.out)
    assert all(step["policy/entropy"] > 0 for step in steps_of(done.out))


@pytest.mark.parametrize("killed", ["server", "arm"])
def test_an_arm_goes_on_after_a_kill_as_if_there_had_been_none(
    killed: str, undisturbed: Ended, arm_inputs: Mapping[str, Path], tmp_path: Path
) -> None:
    config, out = arm_config(sampling={**OURS, "engine": "vllm"}), tmp_path / "arm"
    with stand_in() as (server, address):
        job = arm_job(config, arm_inputs, out, vllm_address=address)
        arm = start_arm(job)
        wait_for_step(out, 3, arm)
        if killed == "arm":
            kill(arm, out)
            arm = start_arm(job)
        else:
            server.kill()
            server.wait()
        with stand_in(port=int(address.rpartition(":")[2])) if killed == "server" else stand_in():
            _, errors = arm.communicate(timeout=300)
    done = ended(arm.returncode, out, errors)
    assert done.code == 0, done.errors + done.error
    assert files_of(out) == files_of(undisturbed.out)
