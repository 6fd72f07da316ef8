"""`dft doctor`: versions, what each framework lets us extend, and the losses checked on this machine."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dft_plugin import __version__
from dft_plugin.frameworks import TESTED, Probe, framework_version

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "deepspeed", "datasets", "triton")
_INTEGRATIONS = {
    "llamafactory": "dft_plugin.integrations.llamafactory.hooks",
    "ms-swift": "dft_plugin.integrations.ms_swift.hooks",
}


@dataclass(frozen=True)
class Diagnosis:
    """First part of a bug report.

    Attributes:
        versions: Of Python, this package and its surroundings; None where not installed.
        frameworks: Per framework: found and tested versions, and its probes.
        checks: The losses against the float64 reference, here and now.
        sandboxes: Whether each way to isolate a model's programs works here; code evaluation needs one.
    """

    versions: dict[str, str | None]
    frameworks: dict[str, dict[str, Any]]
    checks: list[Probe] = field(default_factory=list)
    sandboxes: list[Probe] = field(default_factory=list)

    @property
    def is_healthy(self) -> bool:
        """Return True where a framework is installed and nothing failed."""
        installed = [entry for entry in self.frameworks.values() if entry["found"] is not None]
        probes = [probe for entry in installed for probe in entry["probes"]]
        return bool(installed) and all(probe["passed"] for probe in probes) and all(c.passed for c in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {**asdict(self), "is_healthy": self.is_healthy}


def diagnose() -> Diagnosis:
    """Look at this environment; imports the installed frameworks."""
    versions = {"python": platform.python_version(), "dft-plugin": __version__}
    return Diagnosis(
        versions={**versions, **{name: _installed(name) for name in _PACKAGES}},
        frameworks={name: _diagnose_framework(name) for name in TESTED},
        checks=_check_losses() if _installed("torch") else [],
        sandboxes=_try_sandboxes(),
    )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _diagnose_framework(name: str) -> dict[str, Any]:
    framework = framework_version(name)
    entry = {**asdict(framework), "is_tested": framework.is_tested, "probes": []}
    if framework.found is not None and name not in _INTEGRATIONS:
        from dft_plugin.integrations.hf_trainer import probe

        entry["probes"] = [asdict(result) for result in probe(name)]
    elif framework.found is not None:
        import torch

        autoload = torch._is_device_backend_autoload_enabled()
        detail = "" if autoload else "TORCH_DEVICE_BACKEND_AUTOLOAD=0; use the files in plugins/"
        probes = [Probe("torch.backends autoload", autoload, detail), *import_module(_INTEGRATIONS[name]).probe()]
        entry["probes"] = [asdict(probe) for probe in probes]
    return entry


def _try_sandboxes() -> list[Probe]:
    from dft_eval.sandbox.choose import BACKENDS, open_sandbox
    from dft_eval.sandbox.errors import SandboxUnavailableError
    from dft_eval.sandbox.promises import broken_promises

    probes = []
    for name in BACKENDS:
        try:
            open_sandbox(name)
        except SandboxUnavailableError as error:
            probes.append(Probe(name, False, str(error)))
        else:
            broken = [f"{promise} ({reason})" for promise, reason in broken_promises(name).items()]
            probes.append(Probe(name, True, f"not promised: {'; '.join(broken)}" if broken else ""))
    return probes


def _check_losses() -> list[Probe]:
    """Every objective with a textbook form, in float32, against the float64 reference."""
    import torch

    from dft_plugin.core import reference
    from dft_plugin.core.linear_loss import linear_loss
    from dft_plugin.core.logits_loss import logits_loss

    generator = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(33, 16, generator=generator), torch.randn(97, 16, generator=generator)
    labels = torch.randint(97, (33,), generator=generator)
    labels[::3] = -100
    probes = []
    for name, weight in (("sft", reference.sft_weight), ("dft", reference.dft_weight)):
        truth = reference.reference_loss(hidden, head, labels, weight)
        for path in ("logits path", "fused path"):
            start = time.perf_counter()
            leaf = hidden.clone().requires_grad_()
            options: dict[str, Any] = {"objective": name, "shift": False}
            output = (
                linear_loss(leaf, head, labels, chunk_size=5, **options)
                if path == "fused path"
                else logits_loss(leaf @ head.T, labels, **options)
            )
            output.loss.backward()  # type: ignore[no-untyped-call]
            assert leaf.grad is not None
            error = float((leaf.grad.double() - truth.grad_hidden).norm() / truth.grad_hidden.norm())
            loss_error = float((output.loss.detach().double() - truth.loss).abs() / truth.loss)
            detail = f"relative error: loss {loss_error:.1e}, gradient {error:.1e}; {time.perf_counter() - start:.2f} s"
            label = f"{name} on the {path} equals the float64 reference"
            probes.append(Probe(label, max(error, loss_error) < 1e-5, detail))
    return probes
