"""Objectives whose weight depends on one token's own distribution."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dft_plugin.core.objective import Objective, TokenInputs, require_range
from dft_plugin.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

TOP_K = 20
"""Tokens that the compatibility mode of `eaft` takes the entropy of."""
_NATIVE_EAFT_NORM = 3.0
_LOWEST_TAU = 1e-6  # of TALR's authors


@dataclass(frozen=True)
class Sft(Objective):
    """Plain supervised fine-tuning: every token weighs one (arXiv 2508.05629, Eq. 1)."""

    name = "sft"
    formula = "w = 1"
    source = "cross-entropy; arXiv 2508.05629, Eq. 1"
    advice = "new facts, formats, OCR: whatever the model does not know yet"

    def weight(self, tokens: TokenInputs) -> Tensor:
        """Ones, shape (N,)."""
        return tokens.token_logps.new_ones(tokens.token_logps.shape)


@dataclass(frozen=True)
class Dft(Objective):
    """Dynamic Fine-Tuning: each token weighs its own probability, held constant (arXiv 2508.05629, Eq. 9).

    Since grad(1 - p) = p * grad(-log p), its gradient is that of `1 - mean(p)`, which is what the
    monitor logs as the readable curve.
    """

    name = "dft"
    formula = "w = p"
    source = "Dynamic Fine-Tuning, arXiv 2508.05629, Eq. 9"
    advice = "reasoning, code, multimodal maths from a model that can already do some of it"

    def weight(self, tokens: TokenInputs) -> Tensor:
        """exp(token_logps), shape (N,)."""
        return tokens.token_logps.exp()


@dataclass(frozen=True)
class Power(Objective):
    """The power family: w = p^alpha, the gradient of (1 - p^alpha) / alpha (Beyond Log-Likelihood, arXiv 2510.00526).

    alpha = 0 is SFT, 0.5 lies between, 1 is DFT; larger values trust the model's prior more.

    Attributes:
        alpha: Exponent, at least 0.
    """

    name = "power"
    formula = "w = p^alpha"
    source = "Beyond Log-Likelihood, arXiv 2510.00526, the family (1 - p^alpha) / alpha"
    advice = "one knob from SFT (0) over sqrt(p) to DFT (1) and beyond"

    alpha: float = 0.5

    def __post_init__(self) -> None:
        require_range(self, "alpha", 0.0, math.inf)

    def weight(self, tokens: TokenInputs) -> Tensor:
        """exp(alpha * token_logps), shape (N,)."""
        return (self.alpha * tokens.token_logps).exp()


@dataclass(frozen=True)
class DftFloor(Objective):
    """DFT whose weight never falls below a floor: w = clip(p, floor_at, 1).

    The remedy DFT's authors give in their repository (issue 1) for tokens that are never learned, such as
    an end-of-sequence token the base model hardly knows.

    Attributes:
        floor_at: Smallest weight, in [0, 1].
    """

    name = "dft_floor"
    formula = "w = clip(p, floor_at, 1)"
    source = "DFT, arXiv 2508.05629, Eq. 9, with the minimum its authors advise"
    advice = "DFT where formats or end-of-sequence tokens are new to the model"

    floor_at: float = 0.1

    def __post_init__(self) -> None:
        require_range(self, "floor_at", 0.0, 1.0)

    def weight(self, tokens: TokenInputs) -> Tensor:
        """exp(token_logps), at least `floor_at`, shape (N,)."""
        return tokens.token_logps.exp().clamp(min=self.floor_at)


@dataclass(frozen=True)
class Mix(Objective):
    """A mixture of DFT and SFT, w = a p + (1 - a), with `a` constant or annealed over the run.

    `linear` and `cosine` take `a` from `start` to `alpha` over the whole run, `warmup` linearly over the first
    `warmup` share of the steps and then holds it: SFT first, to learn the format, then DFT.

    Attributes:
        alpha: Share of DFT, in [0, 1]; the last one where annealed.
        schedule: constant, linear, cosine or warmup.
        start: Share of DFT at step 0 where annealed.
        warmup: Share of the steps that `warmup` takes, in (0, 1].
    """

    name = "mix"
    formula = "w = a p + (1 - a), a = alpha or annealed from start to alpha"
    source = "the mixture of SFT (arXiv 2508.05629, Eq. 1) and DFT (Eq. 9)"
    advice = "when pure DFT learns too little of the new and pure SFT forgets too much"

    alpha: float = 0.7
    schedule: Literal["constant", "linear", "cosine", "warmup"] = "constant"
    start: float = 0.0
    warmup: float = 0.1

    def __post_init__(self) -> None:
        require_range(self, "alpha", 0.0, 1.0)
        require_range(self, "start", 0.0, 1.0)
        require_range(self, "warmup", 0.0, 1.0, is_open=True)

    def at(self, progress: float) -> Mix:
        """The mixture with the share of DFT that `progress` calls for, as a constant one."""
        if self.schedule == "constant":
            return self
        done = {
            "linear": progress,
            "cosine": (1 - math.cos(math.pi * progress)) / 2,
            "warmup": min(progress / self.warmup, 1.0),
        }[self.schedule]
        alpha = self.start + (self.alpha - self.start) * done
        return dataclasses.replace(self, alpha=min(max(alpha, 0.0), 1.0), schedule="constant")

    def weight(self, tokens: TokenInputs) -> Tensor:
        """The mixture alpha * exp(token_logps) + 1 - alpha, shape (N,).

        Raises:
            OptionError: an annealed mixture that nobody told where in training it is.
        """
        if self.schedule != "constant":
            raise OptionError(
                f"objective 'mix' with schedule={self.schedule!r} depends on the training step; call "
                "`.at(progress)` with the share of steps done, or use schedule='constant'."
            )
        return self.alpha * tokens.token_logps.exp() + (1 - self.alpha)


@dataclass(frozen=True)
class Profit(Objective):
    """ProFit: only tokens above a probability are trained, w = 1[p > tau] (arXiv 2601.09195).

    `lower` trains the others instead, the paper's control. The sum is still divided by all kept tokens, as
    published; the shared option `renormalise: mean_one` divides by the trained ones instead.

    Attributes:
        tau: Threshold, in [0, 1].
        side: higher or lower.
    """

    name = "profit"
    formula = "w = 1[p > tau]  (side: lower: 1[p <= tau])"
    source = "ProFit, arXiv 2601.09195"
    advice = "data of which only the tokens that carry the argument should be imitated"

    tau: float = 0.1
    side: Literal["higher", "lower"] = "higher"

    def __post_init__(self) -> None:
        require_range(self, "tau", 0.0, 1.0)

    def weight(self, tokens: TokenInputs) -> Tensor:
        """One or zero, shape (N,)."""
        is_above = tokens.token_logps.exp() > self.tau
        return (is_above if self.side == "higher" else ~is_above).to(tokens.token_logps.dtype)


@dataclass(frozen=True)
class Eaft(Objective):
    """Entropy-Adaptive Fine-Tuning: uncertain tokens weigh more (arXiv 2601.02151).

    The paper weighs by the entropy of the 20 likeliest tokens over its maximum ln 20, a stand-in for the full
    entropy. `exact` uses the full entropy over ln 20, at most 1. `top20` reproduces LLaMA-Factory's
    `use_eaft_loss`, which renormalises the 20 likeliest and divides by 3.0.

    Attributes:
        alpha: Exponent, at least 0.
        entropy: exact or top20.
    """

    name = "eaft"
    formula = "w = min(1, H / ln 20)^alpha  (entropy: top20: (H_20 / 3)^alpha)"
    source = "EAFT, arXiv 2601.02151; top20 as in LLaMA-Factory 0.9.5"
    advice = "keep what the model is sure of, learn where it hesitates"

    alpha: float = 1.0
    entropy: Literal["exact", "top20"] = "exact"

    def __post_init__(self) -> None:
        require_range(self, "alpha", 0.0, math.inf)

    @property
    def needs(self) -> frozenset[str]:
        """The entropy the mode asks for."""
        return frozenset({"entropy" if self.entropy == "exact" else "top_entropy"})

    def weight(self, tokens: TokenInputs) -> Tensor:
        """The normalised entropy to the power alpha, shape (N,)."""
        if self.entropy == "exact":
            share = (tokens.need("entropy") / math.log(TOP_K)).clamp(min=0.0, max=1.0)
        else:
            share = tokens.need("top_entropy").clamp(min=0.0) / _NATIVE_EAFT_NORM
        return share**self.alpha


@dataclass(frozen=True)
class Deft(Objective):
    """Dynamic Entropy Fine-Tuning: w = p^c, c the distribution's own concentration (arXiv 2602.11424).

    c = sum_k p_k^2 = exp(-Renyi-2 entropy) is near 0 where the model has no idea (SFT) and near 1 where it is
    sure (DFT); the loss is the deformed logarithm (1 - p^c) / c, whose gradient factor is p^c.
    """

    name = "deft"
    formula = "w = p^c, c = sum_k p_k^2"
    source = "DEFT, arXiv 2602.11424"
    advice = "DFT where the model is sure and SFT where it is not, without a knob"

    @property
    def needs(self) -> frozenset[str]:
        """The concentration."""
        return frozenset({"concentration"})

    def weight(self, tokens: TokenInputs) -> Tensor:
        """exp(concentration * token_logps), shape (N,)."""
        return (tokens.need("concentration") * tokens.token_logps).exp()


@dataclass(frozen=True)
class InfoSft(Objective):
    """InfoSFT: DFT that fades out where the model is sure already (arXiv 2605.14967).

    w = p * relu(1 - logit(p) / logit(P)) with logit(x) = log(x / (1 - x)): 0.185 at p = 0.1, 0.5 at 0.5, and 0 from
    P on. The sum is divided by all kept tokens, as in the authors' code; the shared option `renormalise: mean_one`
    makes another objective of it.

    Attributes:
        cutoff: P, the probability from which a token is not trained any more, in (0.5, 1).
    """

    name = "infosft"
    formula = "w = p * relu(1 - logit(p) / logit(cutoff)), logit(x) = log(x / (1 - x))"
    source = "InfoSFT, arXiv 2605.14967"
    advice = "DFT without effort on what the model is sure of already"

    cutoff: float = 0.93

    def __post_init__(self) -> None:
        if not 0.5 < self.cutoff < 1:
            raise OptionError(f"objective {self.name!r}: cutoff={self.cutoff!r}; (0.5, 1) is accepted.")

    def weight(self, tokens: TokenInputs) -> Tensor:
        """The faded probability, shape (N,)."""
        logps = tokens.token_logps
        logits = logps - (-logps.expm1()).clamp(min=0.0).log()
        return logps.exp() * (1 - logits / math.log(self.cutoff / (1 - self.cutoff))).clamp(min=0.0)


@dataclass(frozen=True)
class GftDcr(Objective):
    """The dynamic coefficient of GFT: p below a threshold, one above it (arXiv 2604.14258, without its advantages).

    Attributes:
        tau: Threshold, in [0, 1]; 0 is SFT, 1 is DFT but for p = 1.
    """

    name = "gft_dcr"
    formula = "w = p where p < tau, else 1"
    source = "GFT, arXiv 2604.14258, its dynamic coefficient alone, without the group advantage"
    advice = "DFT that does not hold back what the model half knows; between SFT and DFT in the paper"

    tau: float = 0.7

    def __post_init__(self) -> None:
        require_range(self, "tau", 0.0, 1.0)

    def weight(self, tokens: TokenInputs) -> Tensor:
        """exp(token_logps) or one, shape (N,)."""
        probs = tokens.token_logps.exp()
        return probs.where(probs < self.tau, 1.0)


@dataclass(frozen=True)
class Talr(Objective):
    """TALR: w = max(p^(1/tau), floor_at), tau the median of the sequences' mean nll over the batch (arXiv 2509.20758).

    A training run takes tau from the optimiser step before, over its micro-batches and all ranks, so that neither
    changes the loss; the first step has none before it and takes tau = 1. A call without `sequence_nll` takes its
    own sequences.

    Attributes:
        floor_at: Smallest weight, in [0, 1].
    """

    name = "talr"
    formula = "w = max(p^(1/tau), floor_at), tau = median of the sequences' mean nll (in training: of the step before)"
    source = "TALR, arXiv 2509.20758"
    advice = "forgetting less; its reviewers saw little gain over a small learning rate"

    floor_at: float = 0.01

    def __post_init__(self) -> None:
        require_range(self, "floor_at", 0.0, 1.0)

    @property
    def needs(self) -> frozenset[str]:
        """The median of the batch's sequences."""
        return frozenset({"sequence_nll"})

    def weight(self, tokens: TokenInputs) -> Tensor:
        """exp(token_logps / tau), at least `floor_at`, shape (N,)."""
        median = tokens.batch_nll().median
        tau = max(median, _LOWEST_TAU) if isinstance(median, float) else median.clamp(min=_LOWEST_TAU)
        return (tokens.token_logps / tau).exp().clamp(min=self.floor_at)


@dataclass(frozen=True)
class ChordPhi(Objective):
    """CHORD's phi: w = p (1 - p), most for tokens the model half knows (arXiv 2508.11408)."""

    name = "chord_phi"
    formula = "w = p (1 - p)"
    source = "CHORD, arXiv 2508.11408, the weight phi"
    advice = "demonstrations mixed into reinforcement learning"

    def weight(self, tokens: TokenInputs) -> Tensor:
        """The variance p - p^2 of a hit, shape (N,)."""
        probs = tokens.token_logps.exp()
        return probs * (1 - probs)


@dataclass(frozen=True)
class Focal(Objective):
    """Focal weighting: w = (1 - p)^gamma, held constant; the opposite of DFT, a control (arXiv 1708.02002, Eq. 4).

    Attributes:
        gamma: Exponent, at least 0.
    """

    name = "focal"
    formula = "w = (1 - p)^gamma"
    source = "focal loss, arXiv 1708.02002, Eq. 4, with the factor held constant"
    advice = "a control arm: what DFT would do if the idea were wrong"

    gamma: float = 2.0

    def __post_init__(self) -> None:
        require_range(self, "gamma", 0.0, math.inf)

    def weight(self, tokens: TokenInputs) -> Tensor:
        """(1 - exp(token_logps))^gamma, shape (N,)."""
        return (-tokens.token_logps.expm1()).clamp(min=0.0) ** self.gamma
