"""The framework versions we test with, and what to do outside them.

Outside the tested range a run goes on with a warning when every probe passes and stops when one
fails: attributes and signatures decide, versions only warn.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet

logger = logging.getLogger(__name__)

TESTED = {
    "llamafactory": SpecifierSet(">=0.9.5,<0.9.6"),
    "ms-swift": SpecifierSet(">=4.6,<4.7"),
    "transformers": SpecifierSet(">=5.6,<5.20"),
    "trl": SpecifierSet(">=0.24,<0.30"),
}


@dataclass(frozen=True)
class FrameworkVersion:
    """An installed framework.

    Attributes:
        name: Distribution name.
        found: Installed version, None where it is not installed.
        tested: Range we test with.
    """

    name: str
    found: str | None
    tested: str

    @property
    def is_tested(self) -> bool:
        """Return True where the installed version lies in the tested range."""
        return self.found is not None and TESTED[self.name].contains(self.found, prereleases=True)


def framework_version(name: str) -> FrameworkVersion:
    """Return the installed version of framework `name`, a key of `TESTED`."""
    try:
        found: str | None = version(name)
    except PackageNotFoundError:
        found = None
    return FrameworkVersion(name, found, str(TESTED[name]))


def warn_if_untested(name: str) -> None:
    """Warn once a run that the installed version is outside the tested range; the caller's probes have passed."""
    framework = framework_version(name)
    if not framework.is_tested:
        logger.warning(
            "dft: %s %s is outside the tested range %s; every probe passed, so the run goes on. "
            "Compare one short run with the framework's own loss first.",
            *(name, framework.found, framework.tested),
        )


@dataclass(frozen=True)
class Probe:
    """One thing a framework must have for us to extend it.

    Attributes:
        name: What is probed, in the framework's words.
        passed: Whether it is there.
        detail: What was found where it is not.
    """

    name: str
    passed: bool
    detail: str = ""
