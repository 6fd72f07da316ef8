"""Every error the evaluation raises on purpose, with the exit code a command ends with.

EvalError
├── ConfigError (ValueError)                  2  settings, names or files that cannot be used as given
│   ├── RecordsError                          2  a line of a JSONL file that is not a record
│   ├── ChangedRunError                       2  the run folder was made with other settings
│   └── PluginError                           2  a benchmark or backend of another package that is broken
├── StoreError (RuntimeError)                 1  a run folder that cannot be read or written
│   └── DiskFullError (OSError)               1  no room for the next record
├── TaskError (RuntimeError)                  1  a benchmark whose numbers contradict each other
├── BackendError (RuntimeError)               1  a model or server that does not answer as it must
└── MissingPrerequisite (RuntimeError)        3  package, tool or data file that is not there

A message says what was found, what is accepted and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class EvalError(Exception):
    """Base of all errors of this package."""

    exit_code: ClassVar[int] = 1


class ConfigError(EvalError, ValueError):
    """The settings cannot be carried out as written."""

    exit_code = 2


class RecordsError(ConfigError):
    """A line of a JSONL file is not the record it should be."""


class ChangedRunError(ConfigError):
    """A run folder was made with other settings."""


class PluginError(ConfigError):
    """A benchmark or backend of another package cannot be used."""


class StoreError(EvalError, RuntimeError):
    """A run folder cannot be read or written."""


class DiskFullError(StoreError, OSError):
    """No room for the next record; everything recorded before is intact."""


class TaskError(EvalError, RuntimeError):
    """A benchmark's own numbers contradict each other; none of them is written."""


class BackendError(EvalError, RuntimeError):
    """A model or a server does not answer as it must."""


class MissingPrerequisite(EvalError, RuntimeError):  # noqa: N818 - the public name
    """A package, tool or data file is missing; the message has the command that gets it."""

    exit_code = 3
