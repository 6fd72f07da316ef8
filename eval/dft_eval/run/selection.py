"""From the names a person gives to benchmarks that are ready to run: data verified, tools there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from dft_eval.errors import ConfigError, MissingPrerequisite
from dft_eval.run.config import EvalConfig
from dft_eval.run.fetch import locate_data
from dft_eval.tasks.base import Task

Catalog = Mapping[str, type[Task]]
"""Benchmarks by the name a person writes."""


def select_tasks(patterns: Sequence[str], catalog: Catalog) -> list[str]:
    """Return the names that match, each once, in the order given; `multipl_e/*` means all languages.

    Raises:
        ConfigError: a pattern that matches nothing.
    """
    names: dict[str, None] = {}
    for pattern in patterns:
        found = [name for name in catalog if fnmatchcase(name, pattern)]
        if not found:
            raise ConfigError(f"task {pattern!r} is unknown{suggest(pattern, catalog)}; all of them: dft eval list")
        names.update(dict.fromkeys(found))
    return list(names)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...` with the names that are like the one given, or nothing."""
    close = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}" if close else ""


def open_task(name: str, protocol: str | None, catalog: Catalog) -> Task:
    """A benchmark that can be run and scored here.

    Args:
        name: In the catalog.
        protocol: One the benchmark knows; None takes its first.
        catalog: All benchmarks.

    Raises:
        ConfigError: an unknown name or protocol.
        MissingPrerequisite: data or tools are not there; the message has the commands that get them.
    """
    if name not in catalog:
        select_tasks([name], catalog)  # an unknown name
        raise ConfigError(f"task {name!r} stands for several benchmarks; give one of them.")
    kind = catalog[name]
    if protocol is None:
        protocol = kind.protocols[0]
    elif protocol not in kind.protocols:
        hint = suggest(protocol, kind.protocols)
        raise ConfigError(f"protocol {protocol!r} of {name}{hint}; accepted: {', '.join(kind.protocols)}.")
    task = kind(locate_data(name, kind.data_files), protocol)
    if missing := task.missing():
        lines = "\n".join(f"  {entry.what}: {entry.install}" for entry in missing)
        raise MissingPrerequisite(f"{name} needs what is not installed here:\n{lines}")
    return task


def open_asked(name: str, config: EvalConfig, catalog: Catalog) -> Task:
    """Open a benchmark that this configuration can ask and score here.

    Raises:
        ConfigError: an unknown name or protocol, or settings the benchmark refuses.
        MissingPrerequisite: something is not there, or the backend cannot ask it.
    """
    kind = catalog.get(name)
    task = open_task(name, None if kind is None else config.protocol_of(kind), catalog)
    task.check_settings(config.settings_of(type(task)))
    return task


def check_choices(config: EvalConfig, catalog: Catalog) -> None:
    """Refuse an `interface` or `protocol` for something that is neither a benchmark nor a domain.

    Raises:
        ConfigError: names it.
    """
    domains = {kind.domain for kind in catalog.values()}
    for option in ("interface", "protocol"):
        choices = getattr(config, option)
        for key in choices if isinstance(choices, Mapping) else ():
            if key not in domains and not any(fnmatchcase(name, key) for name in catalog):
                hint = suggest(key, [*catalog, *domains])
                raise ConfigError(
                    f"{option}: {key!r} is neither a benchmark nor a domain{hint}. "
                    f"Domains: {', '.join(sorted(domains))}."
                )


def find_missing(config: EvalConfig, catalog: Catalog) -> dict[str, str]:
    """Benchmarks of a configuration that cannot be run here, each with what it lacks.

    Raises:
        ConfigError: an unknown name or protocol.
        MissingPrerequisite: none of the benchmarks can be run.
    """
    check_choices(config, catalog)
    names = select_tasks(config.tasks, catalog)
    missing: dict[str, str] = {}
    for name in names:
        try:
            open_asked(name, config, catalog)
        except MissingPrerequisite as error:
            missing[name] = str(error)
    if len(missing) == len(names):
        lines = "\n".join(f"  {name}: {reason}" for name, reason in missing.items())
        raise MissingPrerequisite(f"none of the benchmarks can be run here:\n{lines}")
    return missing


def describe_task(name: str, task: Task) -> dict[str, object]:
    """Return task, protocol, data and tools for `run.json`: all that decides a score besides the settings."""
    return {
        "task": name,
        "protocol": task.protocol,
        "data_sha256": {file.path: file.sha256 or f"md5 {file.md5}" for file in task.data_files},
        "fingerprint": task.fingerprint(),
    }
