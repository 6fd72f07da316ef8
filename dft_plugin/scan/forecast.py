"""Suggested loss, from how well the base model knows the data already: a rule of thumb, labelled as one.

After the model-capability continuum of arXiv 2510.00526: where the model's prior is strong, objectives that lean
on it (DFT) win; where it is weak, plain NLL wins; in between nothing wins everywhere. The paper orders tasks by the
mean probability of the data and gives no bounds between them; the bounds below are this package's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dft_plugin.analysis.target_classes import FORMAT_CLASSES, SUMS, TARGET_CLASSES
from dft_plugin.errors import InputError
from dft_plugin.scan.suggested_loss import SuggestedLoss, suggest_one, suggest_route
from dft_plugin.scan.tally import Sums

STRONG_MEAN_P = 0.65
"""From here on the prior counts as strong: most tokens are the model's own choice, and DFT's mean weight is that."""
WEAK_MEAN_P = 0.35
"""Up to here it counts as weak: DFT would make, on average, a third of the step that learning this needs."""
MAX_IGNORED_SHARE = 0.2
"""A strong prior leaves at most this share of tokens to p < 0.05; more is content DFT would drop, not noise."""
MANY_IGNORED_SHARE = 0.5
"""With half of the tokens at p < 0.05, what remains for DFT is not the data any more: weak, whatever the mean."""
STARVED_MEAN_P = 0.1
"""Below it format tokens are hardly trained by DFT; the floor its authors suggest where formats are not learned."""
NUM_RESAMPLES = 1000
HIGH_STABILITY, MEDIUM_STABILITY = 0.95, 0.8
MIN_SAMPLES = 30
"""Fewer samples cannot show how much they differ, so that resampling them looks surer than it is."""

HEURISTIC = (
    "A heuristic after the model-capability continuum of arXiv 2510.00526, not a measurement of training: bounds are "
    "dft-plugin's own, and the confidence only says how often the verdict stays the same when the samples are drawn "
    "again. Compare runs before a long one."
)

Confidence = Literal["low", "medium", "high"]
_OBJECTIVES = ("sft", "mix", "dft")
_SFT, _MIX, _DFT = range(3)
_STARVED_EOS, _STARVED_TEMPLATE = 4, 8


@dataclass(frozen=True)
class Forecast:
    """A verdict.

    Attributes:
        verdict: sft, dft, mix or route.
        suggested: The settings that carry it out.
        reason: What was measured and what follows.
        stability: Share of resamples with the same settings.
        num_samples: How many samples it rests on.
        smallest: Samples of the smallest dataset.
    """

    verdict: str
    suggested: SuggestedLoss
    reason: str
    stability: float
    num_samples: int
    smallest: int

    @property
    def confidence(self) -> Confidence:
        """Confidence within the heuristic."""
        if self.smallest < MIN_SAMPLES or self.stability < MEDIUM_STABILITY:
            return "low"
        return "high" if self.stability >= HIGH_STABILITY else "medium"

    def record(self) -> dict[str, Any]:
        """As JSON."""
        too_few = f" Fewer than {MIN_SAMPLES} samples: low, however stable." if self.smallest < MIN_SAMPLES else ""
        return {
            "verdict": self.verdict,
            **self.suggested.record(),
            "reason": self.reason,
            "confidence": self.confidence,
            "confidence_reason": f"{self.stability:.1%} of {NUM_RESAMPLES} resamples give the same settings.{too_few}",
            "stability": self.stability,
            "num_samples": self.num_samples,
            "heuristic": HEURISTIC,
        }


def forecast(
    samples: Mapping[str, Sums], *, seed: int, end_tokens: Mapping[str, Sequence[str]]
) -> tuple[Forecast, dict[str, Forecast]]:
    """The verdict on all datasets together, and on each.

    Args:
        samples: By dataset, the sums of its measured samples, shape (samples, classes, columns).
        seed: Of the resampling.
        end_tokens: By dataset, the end tokens among its targets, in the words of `full_weight_tokens`.

    Raises:
        InputError: a dataset without a token of content.
    """
    rng = np.random.default_rng(seed)
    codes: dict[str, int] = {}
    starved: list[str] = []
    each: dict[str, Forecast] = {}
    all_same: NDArray[np.bool_] = np.ones(NUM_RESAMPLES, dtype=bool)
    for name, sums in samples.items():
        total = sums.sum(0)
        codes[name] = int(_decide(total))
        num_samples = len(sums)
        draws = rng.multinomial(num_samples, np.full(num_samples, 1 / num_samples), size=NUM_RESAMPLES)
        resampled = (draws @ sums.reshape(num_samples, -1)).reshape(NUM_RESAMPLES, *total.shape)
        is_same = _decide(resampled) == codes[name]
        all_same &= is_same
        objective, is_eos, is_template = _read(codes[name])
        ends = end_tokens[name] if is_eos else []
        starved += [token for token in ends if token not in starved]
        suggested = suggest_one(objective, starved_ends=ends, is_template_starved=is_template)
        reason = _reason(name, total, codes[name])
        each[name] = Forecast(objective, suggested, reason, float(is_same.mean()), num_samples, num_samples)
    counts = [len(sums) for sums in samples.values()]
    objectives = {name: _read(code)[0] for name, code in codes.items()}
    is_template = any(_read(code)[2] for code in codes.values())
    if len(set(objectives.values())) == 1:
        verdict = next(iter(objectives.values()))
        suggested = suggest_one(verdict, starved_ends=starved, is_template_starved=is_template)
        reason = " ".join(one.reason for one in each.values())
    else:
        verdict = "route"
        suggested = suggest_route(objectives, starved_ends=starved, is_template_starved=is_template)
        reason = "The datasets differ, so each gets its own. " + " ".join(one.reason for one in each.values())
    return Forecast(verdict, suggested, reason, float(all_same.mean()), sum(counts), min(counts)), each


def _content(sums: Sums) -> dict[str, Sums]:
    """Columns of everything but the format, by name."""
    is_content = [name not in FORMAT_CLASSES for name in TARGET_CLASSES]
    return dict(zip(SUMS, np.moveaxis(sums[..., is_content, :].sum(-2), -1, 0), strict=True))


def _mean_p(sums: Sums, name: str) -> Sums:
    """Mean p of one class; not a number where it does not occur."""
    row = sums[..., TARGET_CLASSES.index(name), :]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(row[..., SUMS.index("sum_p")] / row[..., SUMS.index("num_tokens")])


def _decide(sums: Sums) -> NDArray[np.int64]:
    """The verdict as a number, for sums of shape (..., classes, columns)."""
    content = _content(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_p = content["sum_p"] / content["num_tokens"]
        ignored = content["num_low"] / content["num_tokens"]
    is_weak = (mean_p <= WEAK_MEAN_P) | (ignored >= MANY_IGNORED_SHARE)
    is_strong = (mean_p >= STRONG_MEAN_P) & (ignored <= MAX_IGNORED_SHARE)
    code = np.where(is_weak, _SFT, np.where(is_strong, _DFT, _MIX))
    for name, flag in (("eos", _STARVED_EOS), ("template", _STARVED_TEMPLATE)):
        code = code + np.where(is_strong & ~is_weak & (_mean_p(sums, name) < STARVED_MEAN_P), flag, 0)
    return np.asarray(code, dtype=np.int64)


def _read(code: int) -> tuple[str, bool, bool]:
    return _OBJECTIVES[code & 3], bool(code & _STARVED_EOS), bool(code & _STARVED_TEMPLATE)


def _reason(name: str, total: Sums, code: int) -> str:
    content = {key: float(value) for key, value in _content(total).items()}
    if not content["num_tokens"]:
        raise InputError(
            f"dataset {name!r}: its responses hold nothing but end and template tokens; nothing to decide by."
        )
    mean_p, ignored = content["sum_p"] / content["num_tokens"], content["num_low"] / content["num_tokens"]
    found = f"{name}: mean p of the content is {mean_p:.2f}, and {ignored:.0%} of it has p < 0.05"
    weak = f"mean p <= {WEAK_MEAN_P} or at least {MANY_IGNORED_SHARE:.0%}"
    strong = f"mean p >= {STRONG_MEAN_P} and at most {MAX_IGNORED_SHARE:.0%}"
    objective, is_eos, is_template = _read(code)
    if objective == "sft":
        return f"{found}: a weak prior ({weak}), so it has to be learned: sft."
    if objective == "mix":
        return f"{found}: neither a weak prior ({weak}) nor a strong one ({strong}); no objective is known to win: mix."
    text = f"{found}: a strong prior ({strong}): dft."
    if is_eos:
        text += (
            f" The end token's mean p is {float(_mean_p(total, 'eos')):.3f}; dft alone would hardly teach it to stop."
        )
    if is_template:
        text += f" Template tokens' mean p is {float(_mean_p(total, 'template')):.3f}; a floor keeps them trained."
    return text
