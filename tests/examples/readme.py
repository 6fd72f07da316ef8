"""The table of `yaml_examples/README.md`: every training run, by experiment."""

from __future__ import annotations

from tests.examples.table import FRAMEWORKS, Experiment, Row, Table, shown

BEGIN = "<!-- made by `make examples` from tests/examples/recipes.yaml -->"
END = "<!-- end of what is made -->"
_NAMES = {"llamafactory": "LLaMA-Factory", "ms_swift": "ms-swift"}


def with_table(page: str, table: Table) -> str:
    """The page with the table between its marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"README.md lacks {BEGIN!r} ... {END!r}; put both marks where the table belongs.")
    head = "| file in `llamafactory/` and `ms_swift/` | where in the paper | the paper's figures |\n| --- | --- | --- |"
    lines = [head]
    for folder, experiment in table.experiments.items():
        lines += [_line(folder, experiment, row, table) for row in experiment.runs]
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}"


def _line(folder: str, experiment: Experiment, row: Row, table: Table) -> str:
    arms = list(row.scores)[1:]
    name = arms[0] if len(arms) == 1 else f"{{{','.join(arms)}}}"
    scores = ", ".join(f"{arm} {shown(score)}" for arm, score in row.scores.items() if score is not None)
    scores = "none" if all(row.scores[arm] is None for arm in arms) else f"{experiment.metric}: {scores}"
    for arm in arms:
        for framework in FRAMEWORKS:
            if framework in table.arms[arm].absent:
                scores += f". Not by {_NAMES[framework]}: {table.arms[arm].absent[framework]}"
    return f"| `{folder}/{row.model}_{row.tuner}_{name}.yaml` | {row.source} | {scores} |"
