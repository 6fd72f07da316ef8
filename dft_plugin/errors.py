"""Every error this package raises on purpose.

DftError
├── ConfigError (ValueError)             the user's settings
│   ├── UnknownObjectiveError
│   ├── OptionError                      unknown option, wrong type or value
│   └── ConflictError                    two settings that contradict each other
├── ObjectivePluginError (RuntimeError)  an objective of another package that is broken
├── InputError (ValueError)              tensors that cannot be right
│   └── LabelOutOfRangeError (IndexError)
├── IntegrationError (RuntimeError)      a framework we cannot inject into
│   └── LossNotLiveError                 training ran, our loss did not
├── StorageError (OSError)               a file or folder that cannot be written
└── MissingPrerequisiteError (RuntimeError)   package, data or tool that is not there

A message says what was found, what is accepted and what to do.
"""

from __future__ import annotations


class DftError(Exception):
    """Base of all errors of this package."""


class ConfigError(DftError, ValueError):
    """The settings cannot be carried out as written."""


class UnknownObjectiveError(ConfigError):
    """No objective of that name."""


class OptionError(ConfigError):
    """An option the objective does not have, or a value it does not accept."""


class ConflictError(ConfigError):
    """Two settings that contradict each other."""


class ObjectivePluginError(DftError, RuntimeError):
    """An objective of another package cannot be used; the message names it."""


class InputError(DftError, ValueError):
    """Tensors whose shapes or values cannot be right."""


class LabelOutOfRangeError(InputError, IndexError):
    """A label that is neither `ignore_index` nor a row of the vocabulary."""


class IntegrationError(DftError, RuntimeError):
    """The framework is not as we know it; nothing was injected."""


class LossNotLiveError(IntegrationError):
    """A training step went by without our loss having been computed."""


class StorageError(DftError, OSError):
    """A file or folder cannot be written; what was recorded before is intact."""


class MissingPrerequisiteError(DftError, RuntimeError):
    """A package, data file or tool is missing; the message has the command that installs it."""
