"""The kind of a machine: equal where bytes must be, another one where they need not; results of other kinds are told in one line."""

import pytest

from stages.records.machine import (
    UNKNOWN,
    elsewhere_line,
    kind_of,
    machine_kind,
    machine_line,
    made_elsewhere,
    processor,
)
from stages.records.provenance import arithmetic, hardware

AVX512 = "fpu sse2 avx2 fma avx512f avx512dq avx512bw avx512vl"
INTEL = f"""processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
flags\t\t: {AVX512} amx_bf16 amx_tile amx_int8

processor\t: 1
vendor_id\t: other
"""
AMD = INTEL.replace("GenuineIntel", "AuthenticAMD").replace(": 6", ": 25").replace(" amx_bf16 amx_tile amx_int8", "")
ARM = "processor\t: 0\nFeatures\t: fp asimd sve\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd40\n"
OLD = INTEL.replace(AVX512, "fpu sse2 avx2 fma").replace("amx_tile", "")


def kind(tmp_path, text, device="cpu", **environment):
    path = tmp_path / f"cpuinfo-{abs(hash(text))}"
    path.write_text(text)
    return machine_kind(device, cpu=processor(path), environment=environment).replace("/torch", " torch").split(" ")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [(INTEL, "intel-6-143-amx"), (AMD, "amd-25-143-avx512"), (ARM, "arm-8-0xd40-sve"), (OLD, "intel-6-143-avx2")],
)
def test_a_kind_names_vendor_family_model_and_the_widest_instructions(tmp_path, text, expected):
    assert kind(tmp_path, text) == expected


def test_what_the_environment_forces_on_a_library_makes_another_kind():
    plain = machine_kind("cpu", environment={"HOME": "/"})
    assert machine_kind("cpu", environment={}) == plain
    assert machine_kind("cpu", environment={"RING_MATMUL": "mkl"}) == f"{plain}/RING_MATMUL=mkl"
    assert machine_kind("cuda", environment={}) != plain


def test_the_line_of_this_machine_names_processor_kernel_threads_and_torch():
    import torch

    here = {**hardware(device="cpu"), "arithmetic": arithmetic(device="cpu")}
    line = machine_line({"hardware": here, "ranks": 2})
    assert all(part in line for part in (here["vendor"], here["model"], torch.__version__, "2 x "))
    assert here["arithmetic"]["kernel"] in ("mkl", "onednn")
    assert here["arithmetic"]["kernel"] in line


def test_a_stage_without_torch_names_no_kernel():
    assert "torch" not in machine_line({"hardware": {**hardware(device="cpu"), "arithmetic": None}, "ranks": 1})


def test_a_result_of_before_machines_were_recorded_counts_as_made_elsewhere():
    old = {"hardware": {"processor": "an old one"}}
    assert (kind_of(old), machine_line(old), machine_line({})) == (UNKNOWN, "an old one", UNKNOWN)
    assert made_elsewhere({"sft": old}, here="a") == {"sft": UNKNOWN}


def test_results_of_other_kinds_are_told_in_one_line_with_what_to_do():
    documents = {key: {"hardware": {"kind": kind}} for key, kind in (("base", "a"), ("sft", "b"), ("rl/mixed", "b"))}
    kinds = made_elsewhere(documents, here="a")
    assert elsewhere_line(kinds, here="a") == (
        "made on another kind of machine: sft, rl/mixed on b (this one is a); "
        "`--rerun sft` builds it here, as does a RING_HOME of its own"
    )
    assert "`--rerun rl --arm mixed`" in elsewhere_line({"rl/mixed": "b"}, here="a")
