"""The Triton row kernel against its portable form, in Triton's interpreter: no GPU needed."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch

from dft_plugin import linear_loss
from tests.conftest import require

# Run in its own process: Triton reads TRITON_INTERPRET when it is imported.
COMPARE = """
import json
import torch
from dft_plugin.core import row_kernel, row_softmax

row_kernel._BLOCK = 64
WANTS = frozenset(row_softmax.OPTIONAL_STATISTICS)
distances = {}
generator = torch.Generator().manual_seed(0)
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    is_low = dtype != torch.float32
    for scale, softcap in ((1.0, None), (-1.3, 2.0)):
        for vocab in (1, 64, 150):
            logits = (3 * torch.randn(3, vocab, generator=generator)).to(dtype)
            if vocab == 150:
                logits[:, :70] = -torch.inf * scale  # more than a block, as a padded vocabulary has
            targets = torch.randint(vocab // 2, vocab, (3,), generator=generator)
            exact = logits.gather(1, targets[:, None]).squeeze(1).float() + 0.01
            pivots = torch.tensor([0.5, -3.0, 0.25]) if is_low else None
            bias = torch.randn(vocab, generator=generator) if is_low else None
            logit_map = row_softmax.LogitMap(scale, softcap, bias)
            grads, statistics = [], []
            for module in (row_softmax, row_kernel):
                rows = logits.clone()
                options = {"logit_map": logit_map, "wants": WANTS}
                found = module.softmax_rows_(rows, targets, exact, pivots, with_grad=True, **options)
                assert (found.rounding is not None) == is_low
                statistics.append(found if is_low else found[:5])
                grads.append(rows.float())
            case = f"{dtype} scale={scale} softcap={softcap} vocab={vocab}"
            distances[case] = [
                float((a.float() - b.float()).abs().max()) for a, b in (*zip(*statistics), grads)
            ]
            untouched = logits.clone()
            only = row_kernel.softmax_rows_(
                untouched, targets, exact, pivots, logit_map=logit_map, with_grad=False, wants=frozenset()
            )
            assert only[2:] == (None, None, None, None) and torch.equal(only.nll, statistics[1][0])
            assert torch.equal(untouched, logits), "statistics alone must not write"
print(json.dumps(distances))
"""


@pytest.fixture(scope="module")
def distances():
    require(importlib.util.find_spec("triton") is not None, "triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    # the interpreter computes 0 * -inf in lanes that the kernel then discards
    command = [sys.executable, "-W", "ignore", "-c", COMPARE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_kernel_equals_the_portable_form(distances):
    assert len(distances) == 18
    for case, (nll, is_top, entropy, top_entropy, concentration, *rounding, grad) in distances.items():
        one_unit = {"torch.float32": 1e-6, "torch.bfloat16": 2**-8, "torch.float16": 2**-11}[case.split()[0]]
        assert nll < 5e-6, case
        assert is_top == 0, case
        assert max(entropy, top_entropy, concentration) < 5e-6, case
        assert grad <= one_unit * 2, case
        # an entry that rounds up in one and down in the other moves its sum by a unit
        assert max(rounding, default=0) <= one_unit * 2, case


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_the_kernel_compiles_for_hopper(dtype, tmp_path, monkeypatch):
    require(importlib.util.find_spec("triton") is not None, "triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from dft_plugin.core import row_kernel

    flags = {"has_softcap": True, "has_pivot": True, "has_bias": True, "with_grad": True}
    flags |= {"with_entropy": True, "with_concentration": True, "with_rounding": dtype != "fp32"}
    flags["block_size"] = row_kernel._BLOCK
    types = ["*" + dtype, "*i64", *["*fp32"] * 4, "*i1", *["*fp32"] * 3, "i32"]
    types += ["fp32", "fp32", *["constexpr"] * 8]
    signature = dict(zip(row_kernel._softmax_rows_kernel.arg_names, types, strict=True))
    aligned = {(index,): [["tt.divisibility", 16]] for index in range(11)}
    source = ASTSource(row_kernel._softmax_rows_kernel, signature, flags, aligned)
    options = {"num_warps": row_kernel._NUM_WARPS}
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    assert "st.global.v4" in ptx, "rows of an aligned vocabulary move 16 bytes at a time"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_on_a_gpu_the_fused_loss_equals_that_on_a_cpu(dtype, softcap):
    hidden, weight = torch.randn(3, 67, 64).to(dtype), torch.randn(1003, 64).to(dtype)
    labels = torch.randint(1003, (3, 67))
    results = []
    for device in ("cpu", "cuda"):
        leaves = [x.to(device, copy=True).requires_grad_() for x in (hidden, weight)]
        loss = linear_loss(*leaves, labels, logit_scale=0.2, logit_softcap=softcap, chunk_size=50).loss
        loss.backward()
        results.append([loss.detach().cpu(), *(leaf.grad.cpu() for leaf in leaves)])
    for cpu, gpu in zip(*results, strict=True):
        distance = (cpu.double() - gpu.double()).norm() / cpu.double().norm()
        assert distance < {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
