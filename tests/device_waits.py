"""Counts the operations that make the host wait for a device, on any device."""

from collections import Counter
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Operations whose result, or its size, the host must know.
_WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
# On a CPU these read memory without any operation.
_WAITING_METHODS = {"tolist", "numpy", "cpu"}


class _Operations(TorchDispatchMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        is_mask = name in _INDEXING and any(x is not None and x.dtype == torch.bool for x in args[1])
        if name in _WAITING or is_mask:
            self._found[name] += 1
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (name := getattr(func, "__name__", "")) in _WAITING_METHODS:
            self._found[name] += 1
        return func(*args, **(kwargs or {}))


class CountedWaits:
    """Waits of the code in its `with` block, by the name of the operation, in `found`."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._modes = _Operations(self.found), _Methods(self.found)

    def __enter__(self) -> "CountedWaits":
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
