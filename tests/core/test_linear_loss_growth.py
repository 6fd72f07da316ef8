"""Memory and work of the fused loss as a call grows from 4 to 32 chunks; counted, not timed."""

from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from dft_plugin import linear_loss

CHUNK, HIDDEN, VOCAB = 32, 32, 2048
SMALL, LARGE = 4 * CHUNK, 32 * CHUNK
# ids, labels, masks and statistics of each row, some of them int64
PER_ROW_BYTES = 160
_PRODUCTS = {"mm": 0, "addmm": 1, "addmm_": 1}  # position of the left factor


class Counted(TorchDispatchMode):
    """Memory and work of the operations in its `with` block.

    Attributes:
        peak: Largest sum of bytes of the tensors that they made and that were still there.
        num_large: How many tensors of at least `large` bytes they made.
        multiplications: In matrix products.
    """

    def __init__(self, large: int) -> None:
        super().__init__()
        self._large = large
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = self.num_large = self.multiplications = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (first := _PRODUCTS.get(func.overloadpacket.__name__)) is not None:
            self.multiplications += args[first].numel() * args[first + 1].shape[1]
        given = {x.untyped_storage()._cdata for x in args if isinstance(x, torch.Tensor)}
        self._live = {key: value for key, value in self._live.items() if not value[0].expired()}
        for tensor in result if isinstance(result, tuple | list) else [result]:
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self._live and storage._cdata not in given:
                self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
                self.num_large += storage.nbytes() >= self._large
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return result


def count(rows: int, dtype: torch.dtype, *, is_head_trained: bool = True, objective: str = "dft") -> Counted:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, HIDDEN, generator=generator).to(dtype).requires_grad_()
    weight = (torch.randn(VOCAB, HIDDEN, generator=generator) / 8).to(dtype).requires_grad_(is_head_trained)
    labels = torch.randint(VOCAB, (rows,), generator=generator)
    with Counted(large=CHUNK * VOCAB * dtype.itemsize) as counted:
        linear_loss(hidden, weight, labels, shift=False, objective=objective, chunk_size=CHUNK).loss.backward()
    return counted


@pytest.mark.parametrize(
    ("objective", "dtype", "is_head_trained"),
    [
        ("dft", torch.bfloat16, True),
        ("dft", torch.bfloat16, False),
        ("dft", torch.float32, True),
        ("eaft", torch.bfloat16, True),
        ("dft_geometric_mean", torch.bfloat16, True),
    ],
)
def test_more_chunks_take_no_more_memory_beyond_the_rows_own(objective, dtype, is_head_trained):
    small, large = (
        count(rows, dtype, is_head_trained=is_head_trained, objective=objective).peak
        - rows * (HIDDEN * dtype.itemsize + PER_ROW_BYTES)
        for rows in (SMALL, LARGE)
    )
    assert large <= 1.1 * small


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_arrays_as_large_as_the_head_or_a_chunk_are_made_once(dtype):
    small, large = (count(rows, dtype).num_large for rows in (SMALL, LARGE))
    assert small == large <= 4  # logits, the gradient of the head, room for rows in float32


@pytest.mark.parametrize("is_head_trained", [True, False])
def test_work_is_proportional_to_the_rows(is_head_trained):
    small, large = (
        count(rows, torch.bfloat16, is_head_trained=is_head_trained).multiplications / rows for rows in (SMALL, LARGE)
    )
    assert large == pytest.approx(small, rel=0.01)
    # besides: in each chunk the targets among themselves, and one in 64 rows of the head once more
    assert large / (HIDDEN * VOCAB) == pytest.approx(3 if is_head_trained else 2, rel=0.02)
