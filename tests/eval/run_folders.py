"""Finished run folders written by hand, for benchmarks with several columns."""

import json

from dft_eval.metrics import score_share

SHOWN = {
    "mathverse": ("overall", ("vision only", "vision intensive", "vision dominant")),
    "mathvision": ("accuracy", ()),
    "wemath": ("strict", ("loose", "S1", "S2", "S3")),
}


def write_run(out, task, columns, *, is_complete=True, model="recorded", **settings):
    """A run of `task` in `out/TASK`.

    Args:
        out: The model's folder.
        task: A name of `SHOWN`.
        columns: The values of each column's problems, the headline's first.
        is_complete: Whether nothing is missing; else one answer is.
        model: What was asked.
        settings: Of `run.json`, besides the model and the benchmark.
    """
    folder = out / task
    folder.mkdir(parents=True)
    estimates = {
        name: vars(score_share(values, [f"{task}/{index}" for index in range(len(values))]))
        for name, values in columns.items()
    }
    headline, reported = SHOWN[task]
    count = len(columns[headline])
    metrics = {
        "schema_version": 1,
        "task": task,
        "domain": "vision",
        "protocol": "chat",
        "n": count + (not is_complete),
        "num_repeats": 1,
        "n_scored": count,
        "n_missing": int(not is_complete),
        "n_errors": 0,
        "n_unjudged": 0,
        "n_truncated": 0,
        "statuses": {},
        "is_complete": is_complete,
        "incomplete_because": [] if is_complete else [f"1 of {count + 1} answers are missing"],
        "headline": {"name": headline, **estimates[headline]} if is_complete else None,
        "reported": list(reported),
        "metrics" if is_complete else "partial_metrics": estimates,
    }
    problems = {f"{task}/{index}": value for index, value in enumerate(columns[headline])}
    run = {"schema_version": 1, "settings": {"task": task, "model": model, **settings}, "environments": []}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if is_complete:
        content = {"schema_version": 1, "headline": headline, "problems": problems}
        (folder / "problems.json").write_text(json.dumps(content))


def right_of(num_right, count):
    """The values of `count` problems, the first of them right."""
    return [float(index < num_right) for index in range(count)]


def write_model(top, arm, seed, values, *, failed=None, tasks=("mathvision",), **about):
    """Runs of one model with its `arm.json`, in `top/ARM`; `values` None leaves the file alone."""
    folder = top / arm / ("all" if seed is None else f"seed{seed}")
    folder.mkdir(parents=True)
    content = {"schema_version": 1, "arm": arm, "seed": seed, "failed": failed, **about}
    (folder / "arm.json").write_text(json.dumps(content))
    for task in tasks if values is not None else ():
        write_run(folder, task, {SHOWN[task][0]: values})
    return folder


def scored(report):
    """The section of the first domain."""
    return next(section for section in report.sections for table in section.tables if table.title == "Scores")


def cells(report, benchmark, arm):
    """An arm's cells below a benchmark or a column of it, by heading."""
    for table in (table for section in report.sections for table in section.tables if table.title == "Scores"):
        head = None
        for row in table.rows:
            head = head if row[0].is_part else row[0].text
            if head == benchmark and row[0].is_part and row[0].text == arm:
                return dict(zip(table.columns, row, strict=True))
    raise AssertionError(f"{arm} is not below {benchmark}")
