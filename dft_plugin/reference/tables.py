"""Table and settings that `dft reference` prints for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table


def print_reference(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print a row for each file and the settings to change; or how much is left to do."""
    console = console or Console()
    if result["status"] != "done":
        console.print(
            f"{result['num_rows_done']} of {result['num_rows']} rows are measured. Run the other shares with the same "
            "--out; the last one writes the data files.",
            soft_wrap=True,
        )
        return
    table = Table(
        "data", "rows", "dropped", "trained tokens", "mean nll", "mean p", title="log-probabilities of the reference"
    )
    for name, file in result["files"].items():
        numbers = [f"{file[key]:,}" for key in ("num_rows", "num_skipped", "num_tokens")]
        table.add_row(name, *numbers, f"{file['nll']:.3f}", f"{file['mean_p']:.3f}")
    console.print(table)
    for name, file in result["files"].items():
        for skipped in file["skipped"][:3]:
            console.print(f"{name}, row {skipped['row']} (from 0), dropped: {skipped['reason']:.200}", soft_wrap=True)
    config = result["config"]
    console.print(f"The tokens are those of: {config['made_with']}. Change nothing of that.", soft_wrap=True)
    console.print("In the training configuration, with loss_type prift, iw_sft, or asft with kl: target_k3:")
    console.print(yaml.safe_dump(result["changes"], sort_keys=False).rstrip(), soft_wrap=True, markup=False)
