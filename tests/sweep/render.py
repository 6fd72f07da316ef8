"""`docs/models.md` from the results of the sweeps of both environments.

python -m tests.sweep.render
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / ".cache" / "sweep"  # ignored; the page made of them is kept
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
HEAD = """# Models

Which architectures train with which path, and what was shown for each. Made by `make sweep`; do not edit.

The sweep builds a tiny random model (hidden size 32, two layers, vocabulary 96, float32, CPU) of **every** architecture
of transformers' causal and image-text mappings. Each goes through the plugin's own step (`TrainerLoss.forward`, as both
integrations call it), not through a whole run of the framework; whole runs of selected families are in
`tests/integrations`. Image-text models are given text alone here; with images Qwen2.5-VL is tested there. Loss and the
gradient of every parameter are compared:

- **sft = stock**: `loss_type: sft` against the model's own `model(..., labels=...)` loss, which is what both frameworks
  train where nothing is set (divided by the tokens of the step).
- **dft = native**: `loss_type: dft` against the framework's own DFT function on the model's logits.
- **fused = logits**: both objectives inside `lm_head` against the same on the logits.
- **packed = padded**: two samples in one row without padding against two padded rows; "-" where the model's own logits
  differ between the two, so that no loss could agree.
- **router loss**: `sft` = stock, loss and gradients, with `output_router_logits` and a coefficient of 0.1, and what the
  term adds to the loss; "-" where the model has none.

A cell in bold is a difference, left as found. Where the model's own forward fails with its router loss, the cell says
how. Four old architectures (CPM-Ant, TrOCR, XLM, XLNet), which neither framework names, have losses of their own that
are not next-token cross-entropy over the labels; there `sft` is not the stock loss. "failed" is an error that stops
the run: nothing is trained.

Path **fused** names the setting by which the model scales or caps its logits, where it does: found and proven bit for
bit at the first forward. A "named" architecture stands in the framework's templates or models (LLaMA-Factory names
checkpoints: an architecture counts where its name is part of one of theirs; ms-swift names classes).
"""
COLUMNS = {
    "sft_equals_stock": "sft = stock",
    "dft_equals_native": "dft = native",
    "fused_equals_logits": "fused = logits",
    "packed_equals_padded": "packed = padded",
    "router_loss_kept": "router loss",
}


def page(results: list[dict[str, Any]]) -> str:
    """The whole page."""
    return HEAD + "".join(_section(result) for result in results)


def _section(result: dict[str, Any]) -> str:
    rows = result["rows"]
    tried = {name: row for name, row in rows.items() if row["path"] != "not tried"}
    named = sum(row["is_named"] for row in tried.values())
    paths = {path: sum(row["path"] == path for row in tried.values()) for path in ("fused", "logits", "failed")}
    equal = sum(all(not row.get(column) for column in COLUMNS) for row in tried.values() if row["path"] != "failed")
    lines = [
        f"\n## {result['framework']} (transformers {result['transformers']}, torch {result['torch']})\n",
        f"{len(tried)} architectures tried, {named} of them named by {result['framework']}: "
        + ", ".join(f"{count} {path}" for path, count in paths.items())
        + f". In {equal} nothing differs.\n",
        f"| architecture | kind | named | path | {' | '.join(COLUMNS.values())} |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_line(name, row) for name, row in sorted(tried.items())),
        "\nNot tried:\n",
        *(f"- `{name}`: {row['reason']}" for name, row in sorted(rows.items()) if row["path"] == "not tried"),
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, row: dict[str, Any]) -> str:
    detail = row.get("transform") or row["reason"]
    path = row["path"] + (f" ({detail})" if detail else "")
    cells = [_cell(row[column]) if column in row else "-" for column in COLUMNS]
    added = row.get("router_loss")  # absent where the model has none
    if isinstance(added, str):
        cells[-1] = added
    elif added is not None and cells[-1] == "equal":
        cells[-1] = f"equal, {added:.3f} kept" if added else "equal, adds nothing"
    return f"| `{name}` | {row['kind']} | {'yes' if row['is_named'] else ''} | {path} | {' | '.join(cells)} |"


def _cell(difference: str | None) -> str:
    return "-" if difference is None else f"**{difference}**" if difference else "equal"


if __name__ == "__main__":
    PAGE.write_text(page([json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]))
