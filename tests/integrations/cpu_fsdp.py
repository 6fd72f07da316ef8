"""FSDP2 on CPUs: accelerate shards a model on accelerators only, and on CPUs it trains with DDP without a word."""

from __future__ import annotations

import sys
from typing import Any

SHARDED = "parameters sharded by FSDP2"  # in the log of each rank, with their number


def shard_on_cpus() -> None:
    """Let accelerate take FSDP's way on CPUs as it does on GPUs, for the rest of this process.

    Everything else is the frameworks' own: `fully_shard`, its hooks and its collectives, over gloo.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType
    from torch.distributed.tensor import DTensor

    set_up, prepare = AcceleratorState.__init__, Accelerator._prepare_fsdp2

    def set_up_as_on_gpus(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        set_up(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    def prepare_and_say(self: Any, *args: Any) -> Any:
        prepared = prepare(self, *args)
        models = [part for part in prepared if hasattr(part, "parameters")]
        count = sum(isinstance(parameter, DTensor) for model in models for parameter in model.parameters())
        if models:  # an optimiser is prepared alone
            sys.stderr.write(f"{count} {SHARDED}\n")
        return prepared

    AcceleratorState.__init__, Accelerator._prepare_fsdp2 = set_up_as_on_gpus, prepare_and_say
