"""The loss of one training run, whatever the trainer: computed, checked, and remembered for the logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dft_plugin.config import LossConfig
from dft_plugin.core.label_tags import sample_starts
from dft_plugin.core.logits_loss import logits_loss
from dft_plugin.core.reduction import LossOutput
from dft_plugin.core.token_classes import TokenClasses
from dft_plugin.errors import DftError, IntegrationError, LossNotLiveError
from dft_plugin.training.added_loss import AddedLoss
from dft_plugin.training.batch_context import BatchContext
from dft_plugin.training.full_weight import full_weight_ids
from dft_plugin.training.gathered_stats import GatheredStats, Window
from dft_plugin.training.loss_head import HeadPass, LossHead
from dft_plugin.training.loss_path import LossPath
from dft_plugin.training.placeholders import placeholder_ids, refuse_placeholders
from dft_plugin.training.reference_model import require_adapter
from dft_plugin.training.step_before import StepBefore


class ForwardOptions(NamedTuple):
    """Settings of the forward under way; see `TrainerLoss.forward`."""

    num_items_in_batch: Tensor | int | None
    token_scale: Tensor | None = None
    shift: bool = True
    added_scale: Tensor | float | None = 1.0


class TrainerLoss:
    """A `compute_loss_func` for transformers' Trainer and its descendants.

    While training it returns the configured objective. In evaluation (gradients off) it returns plain
    cross-entropy, so that `eval_loss`, best-checkpoint selection and early stopping mean the same in every
    arm; the objective's own value is logged beside it.

    Attributes:
        config: The objective and options of the run.
        num_training_calls: How often the training loss was computed.
        path: Where the loss is computed, and why there.
        objective: What is trained, routed and shaped.
        progress: Share of the optimiser steps done; the monitor keeps it.
        step_before: What the objective compares with from the optimiser step before.
    """

    def __init__(self, config: LossConfig) -> None:
        self.config = config
        self.num_training_calls = 0
        self.path = LossPath(config.shared)
        self.objective = config.training_objective()
        self.progress = 0.0
        self.step_before = StepBefore(
            mean_weight=config.shared.renormalise is not None, sequences="sequence_nll" in self.objective.needs
        )
        self._context = BatchContext(config.shared)
        self._options: ForwardOptions | None = None
        self._added_loss: AddedLoss | None = None
        self._added: list[Tensor] = []
        self._pass: HeadPass | None = None
        self._has_changed: Tensor | None = None
        self._placeholders: tuple[int, ...] = ()
        self._input_ids: Tensor | None = None
        self._gathered = GatheredStats()

    def attach(self, model: nn.Module, *, tokenizer: Any = None, obstacle: str = "") -> None:
        """Choose the path for `model`: fused where that is exact and not switched off.

        Args:
            model: The model as the trainer holds it, adapters included, wrappers not.
            tokenizer: The run's transformers tokenizer, for options that name tokens and for the classes of the logs.
            obstacle: What in the trainer's settings rules the fused path out; empty where nothing does.

        Raises:
            ConflictError: `fused: true` or `gradient_filter` was asked for and the fused loss cannot be exact.
        """
        shared = self.config.shared
        self._placeholders = placeholder_ids(model.config)
        if shared.full_weight_tokens:
            self.objective = self.config.training_objective(
                full_weight_ids(shared.full_weight_tokens, tokenizer, model)
            )
        if "ref_logits" in self.objective.needs:
            require_adapter(model)
        self._added_loss = AddedLoss(model)
        self._gathered = GatheredStats(
            None if tokenizer is None else TokenClasses.of_tokenizer(tokenizer),
            {} if shared.route is None else shared.route.keys,
            has_default=shared.route is not None and shared.route.has_default,
        )
        self.path.choose(model, self.objective, obstacle=obstacle)

    @contextmanager
    def forward(
        self,
        model: Any,
        inputs: dict[str, Any],
        *,
        num_items_in_batch: Tensor | int | None,
        token_scale: Tensor | None = None,
        shift: bool = True,
        wants_logits: bool = False,
        added_scale: Tensor | float | None = 1.0,
    ) -> Iterator[dict[str, Any]]:
        """Surround one forward of the model and the call of this loss; yield what the forward must be given.

        The first time in each mode, the path is settled before; see `LossPath.settle`. While it is open the labels are
        plain ids, what they carried and what the frozen reference says is known to the objective, and the head
        computes the loss where it can.

        Args:
            model: The model as the trainer calls it, wrappers included.
            inputs: What the trainer hands to the forward; `labels` of shape (..., T), as the hidden states will be.
            num_items_in_batch: Kept tokens of the whole optimiser step.
            token_scale: Factor of each token's loss, shape (..., T).
            shift: False for labels shifted already.
            wants_logits: Whether a metric needs the logits, which then must be made.
            added_scale: Factor that plain training gives to what the model adds to its cross-entropy; None where plain
                training does not let the model compute a loss.

        Raises:
            ConflictError: the model adds a term to its loss that cannot be kept.
            InputError: labels that do not carry what the objective needs, or that are placeholders.
            LossNotLiveError: on leaving, nobody took the loss, or nobody computed it.
        """
        from accelerate.utils import extract_model_from_parallel  # here: it costs what importing transformers costs

        bare_model = extract_model_from_parallel(model)
        with self.batch(inputs) as plain:
            labels = plain.get("labels")  # absent where a trainer predicts without them
            if labels is not None:
                refuse_placeholders(labels, self._placeholders)  # the model would fail less clearly
            if not wants_logits:
                self.path.settle(bare_model, plain, self._added_loss)
            head = None if wants_logits else self.path.head
            self._options = ForwardOptions(num_items_in_batch, token_scale, shift, added_scale)
            try:
                with ExitStack() as stack:
                    stack.enter_context(self._context.with_reference(bare_model, plain, self.objective, head))
                    if self._added_loss is not None and labels is not None and added_scale is not None:
                        self._added = stack.enter_context(self._added_loss.keeping(model, bare_model, plain))
                    if labels is not None and head is not None:
                        stack.enter_context(self._in_head(head, labels, self._options))
                    num_before = self.num_training_calls
                    yield plain
                    is_training = torch.is_grad_enabled() and labels is not None
                    if head is None and is_training and self.num_training_calls == num_before:
                        raise self._not_live("the trainer never computed it")
            finally:
                self._options, self._added = None, []

    @contextmanager
    def _in_head(self, head: LossHead, labels: Tensor, options: ForwardOptions) -> Iterator[None]:
        computing = head.computing(
            labels,
            self.objective.at(self.progress),
            num_items_in_batch=options.num_items_in_batch,
            context=self.step_before.known_to(self._context.tokens),
            token_scale=self._context.scaled(options.token_scale, shift=options.shift),
            shift=options.shift,
        )
        try:
            with computing as self._pass:
                yield
        except DftError:
            raise
        except Exception as error:
            if self._pass is not None and self._pass.output is not None and not self._pass.is_taken:
                raise self._not_live() from error
            raise
        else:
            if self._pass is not None and not self._pass.is_taken:
                raise self._not_live()
        finally:
            self._pass = None

    @contextmanager
    def batch(self, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the inputs of one forward with plain labels; what the labels carried counts while this is open."""
        self._input_ids = inputs.get("input_ids")  # absent where the embeddings were made before
        try:
            with self._context.taken_from(inputs, self.objective) as plain:
                yield plain
        finally:
            self._input_ids = None

    def countable(self, batches: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """The batches of an optimiser step with the labels that its divisor counts: tokens, or one of each sample.

        Args:
            batches: As the data pipeline made them, their labels tagged where the run's are.
        """
        if self.config.shared.reduction == "token_mean":
            return batches
        return [
            {**batch, "labels": sample_starts(batch["labels"])} if "labels" in batch else batch for batch in batches
        ]

    def plain_labels(self, labels: Tensor | None) -> Tensor | None:
        """Labels without what they carry; None and labels that carry nothing as they are."""
        return labels if labels is None else self._context.plain(labels, self.objective)

    @property
    def is_open(self) -> bool:
        """Say whether a forward is under way."""
        return self._options is not None

    @property
    def keeps_added(self) -> bool:
        """Say whether the loss of the forward under way has what the model adds to its own."""
        return bool(self._added)

    @property
    def fused_output(self) -> LossOutput | None:
        """Output of the head in the forward under way; None on the logits path."""
        return None if self._pass is None else self._pass.output

    def _not_live(self, found: str = "the trainer never took it from lm_head") -> LossNotLiveError:
        return LossNotLiveError(
            f"loss_type={self.config.objective.name} was asked for, but {found}: another plugin or a patched trainer "
            "replaced the loss. Remove it, or train without loss_type."
        )

    def __call__(
        self, outputs: Any, labels: Tensor | None, num_items_in_batch: Tensor | int | None = None, **_: Any
    ) -> Tensor:
        """Return the scalar loss of one forward.

        Args:
            outputs: The model's.
            labels: Shape (..., T).
            num_items_in_batch: As given to `forward`, which counts where one is open.

        Raises:
            IntegrationError: no labels, no logits, or logits that are not what the head returned.
        """
        logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
        if logits is None:
            raise IntegrationError(
                "the model returned no logits, so the objective cannot be computed; a fused kernel hides them. "
                "Switch that kernel off (enable_liger_kernel: false / --use_liger_kernel false)."
            )
        mode = "train" if torch.is_grad_enabled() else "eval"
        if self._pass is not None:
            loss = self._pass.loss_from(logits)
            assert self._pass.output is not None and self._pass.has_changed is not None
            changed = self._pass.has_changed  # read with the logs: reading it here would wait for the device
            self._has_changed = changed if self._has_changed is None else self._has_changed | changed
            return self._take(self._pass.output, self._pass.labels, loss, mode)
        if labels is None:
            raise IntegrationError("the batch has no labels; a token loss needs them. Check the data collator.")
        options = self._options or ForwardOptions(num_items_in_batch)
        output = logits_loss(
            logits,
            labels,
            objective=self.objective.at(self.progress),
            num_items_in_batch=options.num_items_in_batch,
            token_scale=self._context.scaled(options.token_scale, shift=options.shift),
            shift=options.shift,
            context=self.step_before.known_to(self._context.tokens),
        )
        return self._take(output, labels, output.loss, mode)

    def _take(self, output: LossOutput, labels: Tensor, loss: Tensor, mode: str) -> Tensor:
        self._gathered.add(
            mode,
            output,
            labels,
            input_ids=self._input_ids,
            placeholder_ids=self._placeholders,
            routes=self._context.routes,
        )
        if mode == "eval":
            return self._with_added(output.plain_loss)
        self.num_training_calls += 1
        self.step_before.add(output, self._context.segments)
        return self._with_added(loss)

    def _with_added(self, loss: Tensor) -> Tensor:
        """Add what the model adds to its cross-entropy, with the factor that plain training gives it."""
        scale = None if self._options is None else self._options.added_scale
        if self._added_loss is None or not self._added or scale is None:
            return loss
        added = self._added[0].to(loss) * scale
        if torch.is_grad_enabled():
            self._added_loss.count(added)
        return loss + added

    def pop_window(self, mode: str, *, device: torch.device | str = "cpu") -> Window:
        """Return the statistics of a mode since the last call, over all ranks; every rank must call.

        Args:
            mode: "train" or "eval".
            device: Where the process group's backend communicates.

        Raises:
            IntegrationError: in one of the forwards the model did to the head's output what it had not done before.
        """
        has_changed, self._has_changed = self._has_changed, None
        if has_changed is not None and bool(has_changed):
            raise IntegrationError(
                "the model changed what lm_head returned otherwise than in the first forward, so the fused loss may "
                "be wrong. Set `fused: false` in loss_config to train the same objective on the logits path."
            )
        window = self._gathered.pop(mode, device=device)
        if mode == "eval" or self._added_loss is None:
            return window
        return window._replace(aux_loss=self._added_loss.pop(device))

    def pop_metrics(self, mode: str, *, device: torch.device | str = "cpu") -> dict[str, float]:
        """Token means of `pop_window`, for a trainer without our monitor; see `TokenStats.means`."""
        return self.pop_window(mode, device=device).stats.means()

    def begin_step(self, progress: float) -> None:
        """An optimiser step begins.

        Args:
            progress: Share of the steps done, in [0, 1].
        """
        self.progress = min(progress, 1.0)

    def end_step(self, device: torch.device | str) -> None:
        """An optimiser step is done; every rank must call.

        Args:
            device: Where the process group's backend communicates.
        """
        if self._added_loss is not None:
            self._added_loss.end_step()
        self.step_before.end_step(device)

    def discard(self, mode: str) -> None:
        """Forget what was gathered for `mode`."""
        self._gathered.discard(mode)
