"""DFT in a plain transformers trainer.

    from plugins.hf_trainer_dft import DftTrainer
    trainer = DftTrainer(...)                        # as transformers.Trainer

With options, another objective, or TRL:

    from dft_plugin.integrations.hf_trainer import with_loss
    trainer = with_loss(SFTTrainer, "dft", {"option": value})(args=SFTConfig(loss_type="nll", ...), ...)

`eval_loss` stays plain cross-entropy; the output folder gets dft_run.json, dft_monitor.jsonl and the curves.
"""

import transformers

from dft_plugin.integrations.hf_trainer import with_loss

DftTrainer = with_loss(transformers.Trainer, "dft")
