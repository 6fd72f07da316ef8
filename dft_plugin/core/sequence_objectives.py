"""Objectives that weigh a whole sequence, and those that compare with a frozen reference model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dft_plugin.core.objective import Objective, TokenInputs, require_range

if TYPE_CHECKING:
    from torch import Tensor

_STD_EPSILON = 1e-6  # of CADFT's authors
_IW_CLIPS = {"sequence": (0.0, 16.0), "token": (0.2, 1.8)}


@dataclass(frozen=True)
class DftSequence(Objective):
    """Every token weighs the probability of its whole sequence (arXiv 2508.05629, section 4.6, Table 5).

    The paper's ablation: the product of hundreds of probabilities is nearly 0, and little is learned. A
    sequence is all the kept tokens of one sample; packed neighbours are other sequences.
    """

    name = "dft_sequence"
    formula = "w = prod_t p_t over the sequence"
    source = "arXiv 2508.05629, section 4.6 (sentence-level weighting)"
    advice = "reproducing the paper's ablation; a negative result there"

    @property
    def needs(self) -> frozenset[str]:
        """Need to know which sequence each token belongs to."""
        return frozenset({"segments"})

    def weight(self, tokens: TokenInputs) -> Tensor:
        """The exponential of the sequence's summed token_logps, shape (N,)."""
        return tokens.segment_sum(tokens.token_logps).exp()


@dataclass(frozen=True)
class DftGeometricMean(Objective):
    """Every token weighs the geometric mean probability of its sequence (arXiv 2508.05629, section 4.6, Table 5)."""

    name = "dft_geometric_mean"
    formula = "w = (prod_t p_t)^(1/T) over the sequence"
    source = "arXiv 2508.05629, section 4.6 (geometric-mean weighting)"
    advice = "weighing whole samples by how well the model knows them; weak in the paper"

    @property
    def needs(self) -> frozenset[str]:
        """Need to know which sequence each token belongs to."""
        return frozenset({"segments"})

    def weight(self, tokens: TokenInputs) -> Tensor:
        """The exponential of the sequence's mean token_logps, shape (N,)."""
        return tokens.segment_mean(tokens.token_logps).exp()


@dataclass(frozen=True)
class Cadft(Objective):
    """CADFT's weight: DFT that trains sequences the model finds unusually hard less (arXiv 2606.11206).

    w = p * exp(-beta * max(0, z)), z = (c - mean) / (std + 1e-6) with c the sequence's mean nll, mean and std over
    the sequences of the whole batch. A training run takes both from the optimiser step before, over its
    micro-batches and all ranks, so that neither changes the loss; the first step has none before it and is DFT.
    A call without `sequence_nll` takes its own sequences. The paper's second half, rewriting such samples later, is
    no objective and left out.

    Attributes:
        beta: How much a hard sequence loses, at least 0; 0 is DFT.
    """

    name = "cadft"
    formula = (
        "w = p * exp(-beta * max(0, z)), z = (c - mean) / std, c = the sequence's mean nll "
        "(in training, mean and std of the step before)"
    )
    source = "CADFT, arXiv 2606.11206, its weight alone, without the rewriting of samples"
    advice = "DFT on data with outliers: samples far from what the model can do count less"

    beta: float = 1.0

    def __post_init__(self) -> None:
        require_range(self, "beta", 0.0, math.inf)

    @property
    def needs(self) -> frozenset[str]:
        """Need to know which sequence each token belongs to, and the mean and spread of the batch's."""
        return frozenset({"segments", "sequence_nll"})

    def weight(self, tokens: TokenInputs) -> Tensor:
        """exp(token_logps), less for the sequences that are harder than most, shape (N,)."""
        batch = tokens.batch_nll()
        z = (tokens.segment_mean(-tokens.token_logps) - batch.mean) / (batch.std + _STD_EPSILON)
        return (tokens.token_logps - self.beta * z.clamp(min=0.0)).exp()


@dataclass(frozen=True)
class IwSft(Objective):
    """Importance-weighted SFT: w = clip((p / p_ref)^temperature) (iw-SFT, arXiv 2507.12856).

    `sequence` uses the geometric mean of the ratio over the sequence, clipped to [0, 16]; `token` each token's own
    ratio, clipped to [0.2, 1.8]. The bounds are those of the authors' code.

    Attributes:
        level: sequence or token.
        temperature: Exponent of the ratio, above 0.
    """

    name = "iw_sft"
    formula = "w = clip(exp(temperature * mean_t(log p - log p_ref)), 0, 16)"
    source = "iw-SFT, arXiv 2507.12856"
    advice = "curated demonstrations, with the log-probabilities of the model that starts the run"

    level: Literal["sequence", "token"] = "sequence"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_range(self, "temperature", 0.0, math.inf, is_open=True)

    @property
    def needs(self) -> frozenset[str]:
        """The reference, and for the sequence level which sequence each token belongs to."""
        return frozenset({"ref_logps", "segments"} if self.level == "sequence" else {"ref_logps"})

    def weight(self, tokens: TokenInputs) -> Tensor:
        """The clipped importance weight, shape (N,)."""
        ratio = tokens.token_logps - tokens.need("ref_logps")
        if self.level == "sequence":
            ratio = tokens.segment_mean(ratio)
        low, high = _IW_CLIPS[self.level]
        return (self.temperature * ratio).exp().clamp(min=low, max=high)


@dataclass(frozen=True)
class Prift(Objective):
    """PriFT: the frozen base model's probability as the weight, w = p_ref^alpha (arXiv 2606.09396, PriFT-prob).

    The weights need one pass of the base model over the data, before training, and cannot drift during it. The
    paper's mass variant needs the reference's whole distribution and is not offered.

    Attributes:
        alpha: Exponent, at least 0; the paper uses 1.
    """

    name = "prift"
    formula = "w = p_ref^alpha"
    source = "PriFT-prob, arXiv 2606.09396"
    advice = "like dft, where its self-reinforcement is unwanted"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        require_range(self, "alpha", 0.0, math.inf)

    @property
    def needs(self) -> frozenset[str]:
        """The reference."""
        return frozenset({"ref_logps"})

    def weight(self, tokens: TokenInputs) -> Tensor:
        """exp(alpha * ref_logps), shape (N,)."""
        return (self.alpha * tokens.need("ref_logps")).exp()


@dataclass(frozen=True)
class Asft(Objective):
    """Anchored SFT: DFT plus a Kullback-Leibler anchor to the frozen model the run starts from (arXiv 2509.23753).

    `ref_to_model` adds kl_coef * KL(p_ref || p), summed over the vocabulary: the paper's term. It needs the
    reference's distribution, which a LoRA run has by switching its adapter off. `target_k3` needs only the
    reference's log-probabilities of the targets: its gradient is that of k3 = r - log r - 1 with r = p_ref / p of
    the target, an estimate of KL(p || p_ref), which enters as the weight kl_coef * (r - 1). The two directions
    differ, and so do coefficients that suit them.

    Attributes:
        kl_coef: Factor of the anchor, at least 0.
        kl: ref_to_model or target_k3.
    """

    name = "asft"
    formula = "w = p, plus kl_coef * KL(p_ref || p)  (kl: target_k3: w = p + kl_coef * (p_ref / p - 1))"
    source = "ASFT, arXiv 2509.23753; k3 estimator as used in reinforcement learning"
    advice = "DFT that must not drift from its base model: medicine, long runs"

    kl_coef: float = 0.1
    kl: Literal["ref_to_model", "target_k3"] = "ref_to_model"

    def __post_init__(self) -> None:
        require_range(self, "kl_coef", 0.0, math.inf)

    @property
    def needs(self) -> frozenset[str]:
        """The reference, as a distribution or at the targets."""
        return frozenset({"ref_logits" if self.kl == "ref_to_model" else "ref_logps"})

    def weight(self, tokens: TokenInputs) -> Tensor:
        """p, and the anchor's share where it is a weight, shape (N,)."""
        weight = tokens.token_logps.exp()
        if self.kl == "target_k3":
            weight = weight + self.kl_coef * (tokens.need("ref_logps") - tokens.token_logps).expm1()
        return weight

    def kl_scale(self, tokens: TokenInputs) -> Tensor | None:
        """kl_coef for each token, where the anchor is the full divergence."""
        if self.kl == "target_k3":
            return None
        return tokens.token_logps.new_full(tokens.token_logps.shape, self.kl_coef)
