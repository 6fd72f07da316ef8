"""DFT in a plain transformers or TRL trainer.

    from plugins.hf_trainer_dft import dft_loss
    trainer = Trainer(..., compute_loss_func=dft_loss)

Evaluation (gradients off) returns plain cross-entropy; `dft_loss.pop_metrics("train")` has the statistics.
"""

from dft_plugin.training.trainer_loss import TrainerLoss

dft_loss = TrainerLoss.named("dft")
