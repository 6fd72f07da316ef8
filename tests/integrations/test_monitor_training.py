"""The monitor in a real transformers Trainer: a base model that never ends its turns, trained three ways.

The model first learns sequences without their end. DFT then hardly sees the ends (p near 0), a floor and SFT do.
"""

import json
import logging

import pytest
import torch

from dft_plugin.config import LossConfig
from dft_plugin.core.token_classes import TokenClasses
from dft_plugin.training.gathered_stats import GatheredStats
from dft_plugin.training.trainer_loss import TrainerLoss
from tests.integrations import tiny

pytestmark = [pytest.mark.slow, pytest.mark.llamafactory, pytest.mark.filterwarnings("ignore")]

VOCAB, END, LENGTH = 40, 0, 12
LOGGER = logging.getLogger("test_monitor_training")


class ClassedLoss(TrainerLoss):
    """The loss, with the classes of a vocabulary that has no tokenizer."""

    def __init__(self, config):
        super().__init__(config)
        table = torch.full((VOCAB,), 5)
        table[END] = 0
        self._gathered = GatheredStats(TokenClasses(table))


@pytest.fixture(scope="module")
def sequences():
    ids = torch.randint(2, VOCAB, (32, LENGTH), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = END
    return ids


def sample(ids):
    """The first token is never predicted; counted as a label it would lower the logged loss."""
    return {"input_ids": ids, "labels": torch.cat((torch.tensor([-100]), ids[1:]))}


@pytest.fixture(scope="module")
def base(sequences):
    """A model that knows the sequences and never ends them."""
    from transformers import Qwen2ForCausalLM

    config = tiny.text_config(VOCAB, eos_token_id=END, pad_token_id=1, initializer_range=0.1)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    labels = sequences.masked_fill(sequences == END, -100)
    for _ in range(150):
        model(input_ids=sequences, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return config, model.state_dict()


@pytest.fixture
def train(base, sequences, tmp_path):
    def run(loss_type, *, max_steps=100, resume=None):
        from transformers import Qwen2ForCausalLM, Trainer, TrainingArguments

        from dft_plugin.monitor.callback import LossMonitor

        class MonitoredTrainer(Trainer):
            def log(self, logs, *args, **kwargs):
                if "loss" in logs:
                    window = loss.pop_window("train", device=self.args.device)
                    logs.update(monitor.window(self.state.global_step, "train", window, epoch=self.state.epoch))
                super().log(logs, *args, **kwargs)

        config, weights = base
        model = Qwen2ForCausalLM(config)
        model.load_state_dict(weights)
        arguments = TrainingArguments(
            output_dir=str(tmp_path / loss_type),
            per_device_train_batch_size=8,
            max_steps=max_steps,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            logging_steps=5,
            save_steps=60,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        loss = ClassedLoss(LossConfig.parse(loss_type))
        monitor = LossMonitor(loss, framework="llamafactory", stage="sft", logger=LOGGER)
        trainer = MonitoredTrainer(
            model,
            arguments,
            train_dataset=[sample(ids) for ids in sequences],
            compute_loss_func=loss,
            callbacks=[monitor],
        )
        trainer.train(resume_from_checkpoint=resume and str(tmp_path / loss_type / resume))
        return tmp_path / loss_type, trainer.state.log_history

    return run


def rows(folder):
    return [json.loads(line) for line in (folder / "dft_monitor.jsonl").read_text().splitlines()]


def test_a_starving_run_says_so(train, caplog):
    with caplog.at_level(logging.WARNING):
        folder, history = train("dft")
    (alarm, *_) = [alarm for row in rows(folder) for alarm in row["alarms"]]
    assert alarm["kind"] == "eos_starvation" and alarm["measured"]["p"] < 0.05
    assert "dft: alarm: eos_starvation" in caplog.text and "full_weight_tokens" in caplog.text
    assert [row["step"] for row in rows(folder)] == list(range(5, 101, 5))
    logged = [entry for entry in history if "loss" in entry]
    for row, entry in zip(rows(folder), logged, strict=True):
        assert entry["p/eos"] == row["classes"]["eos"]["p"] and entry["nll"] == row["means"]["nll"]
        assert entry["loss"] == pytest.approx(entry["objective"], rel=1e-4)
        assert row["classes"]["eos"]["tokens"] == 40 and row["tokens"] == 40 * (LENGTH - 1)
    assert "eos_starvation" in (folder / "dft_monitor.html").read_text()
    assert (folder / "dft_monitor.png").exists()


@pytest.mark.parametrize("loss_type", ["sft", "dft_floor"])
def test_a_healthy_run_is_silent(train, loss_type, caplog):
    with caplog.at_level(logging.WARNING):
        folder, _ = train(loss_type)
    last = rows(folder)[-1]
    assert last["classes"]["eos"]["p"] > 0.3 and last["means"]["nll"] < rows(folder)[0]["means"]["nll"]
    assert not [alarm for row in rows(folder) for alarm in row["alarms"]] and "alarm" not in caplog.text
    assert "None." in (folder / "dft_monitor.html").read_text()


def test_a_resumed_run_goes_on_in_the_same_file(train):
    folder, _ = train("dft", max_steps=70)
    before = rows(folder)
    train("dft", max_steps=90, resume="checkpoint-60")
    after = rows(folder)
    assert [row["step"] for row in after] == list(range(5, 91, 5))
    assert after[:12] == before[:12]
    assert len([alarm for row in after for alarm in row["alarms"] if alarm["kind"] == "eos_starvation"]) == 1
