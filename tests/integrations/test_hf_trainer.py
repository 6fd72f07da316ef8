"""Plain transformers and TRL trainers through `with_loss`: the loss by hand, stock TRL, and what is refused."""

import json

import pytest
import torch

from dft_plugin.errors import ConflictError
from tests.integrations import tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SAMPLES, EVALUATED = 8, 4
FUSED = {"fused": True}


@pytest.fixture(
    scope="module",
    autouse=True,
    params=[
        pytest.param("llamafactory", marks=pytest.mark.llamafactory),
        pytest.param("swift", marks=pytest.mark.swift),
    ],
)
def environment(request):
    """Run once in each framework's environment, whose transformers and TRL differ."""
    return request.param


@pytest.fixture(autouse=True)
def stock_callbacks(monkeypatch):
    """Undo ms-swift's default callbacks where another test imported it: they read arguments that only it has."""
    from transformers import trainer, trainer_callback

    monkeypatch.setattr(trainer, "DEFAULT_CALLBACKS", [trainer_callback.DefaultFlowCallback])
    monkeypatch.setattr(trainer, "DEFAULT_PROGRESS_CALLBACK", trainer_callback.ProgressCallback)
    monkeypatch.setattr(trainer, "PrinterCallback", trainer_callback.PrinterCallback)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make_text_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def load(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def by_hand(model, batch, *, is_dft):
    """Loss and gradient norm in float64."""
    model = model.double().train()  # no dropout in it
    model.zero_grad()
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    log_probs = model(**inputs).logits[:, :-1].log_softmax(-1)
    targets = batch["labels"][:, 1:]
    kept = targets != -100
    nll = -log_probs.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)[kept]
    loss = ((-nll).exp().detach() * nll if is_dft else nll).mean()
    loss.backward()
    norm = torch.stack([weight.grad.norm() for weight in model.parameters()]).norm()
    return float(loss), float(norm)


def settings(batch, **overrides):
    return {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": SAMPLES // batch,
        "per_device_eval_batch_size": EVALUATED,
        "max_steps": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        **overrides,
    }


def steps(trainer, key="loss"):
    return [entry for entry in trainer.state.log_history if key in entry]


def assert_same(ours, theirs, keys=("loss", "grad_norm")):
    for a, b in zip(steps(ours), steps(theirs), strict=True):
        for key in keys:
            assert a[key] == pytest.approx(b[key], rel=2e-5), key


def assert_by_hand(trainer, folder, output_dir, framework):
    """Step 1, the evaluation after the last step, and the record."""
    (batch,) = trainer.get_eval_dataloader(trainer.train_dataset)
    loss, norm = by_hand(load(folder), batch, is_dft=True)
    first = steps(trainer)[0]
    assert first["loss"] == pytest.approx(loss, rel=1e-5) and first["grad_norm"] == pytest.approx(norm, rel=1e-5)

    trained = load(folder)
    trained.load_state_dict(trainer.model.state_dict())
    nll, _ = by_hand(trained, next(iter(trainer.get_eval_dataloader())), is_dft=False)
    assert steps(trainer, "eval_loss")[-1]["eval_loss"] == pytest.approx(nll, rel=1e-5)

    record = json.loads((output_dir / "dft_run.json").read_text())
    assert (record["path"], record["framework"], record["loss_type"]) == ("fused", framework, "dft")
    rows = [json.loads(line) for line in (output_dir / "dft_monitor.jsonl").read_text().splitlines()]
    assert [row["mode"] for row in rows] == ["train", "train", "eval"]


@pytest.fixture
def train(folder, tokenizer, tmp_path):
    """Train a class with the plain transformers arguments."""
    from transformers import DataCollatorForSeq2Seq, TrainingArguments

    def encode(row):
        prompt, answer = (tokenizer(row[key])["input_ids"] for key in ("question", "answer"))
        return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}

    rows = [encode(row) for row in tiny.samples(SAMPLES + EVALUATED)]

    def run(trainer_class, name, *, batch, **overrides):
        arguments = TrainingArguments(output_dir=str(tmp_path / name), **settings(batch, **overrides))
        trainer = trainer_class(
            model=load(folder),
            args=arguments,
            train_dataset=rows[:SAMPLES],
            eval_dataset=rows[SAMPLES:],
            data_collator=DataCollatorForSeq2Seq(tokenizer),
            processing_class=tokenizer,
        )
        trainer.train()
        return trainer

    return run


@pytest.fixture
def train_trl(folder, tokenizer, tmp_path):
    """Train a class with TRL's arguments."""
    from datasets import Dataset
    from trl import SFTConfig

    rows = [{"prompt": row["question"], "completion": row["answer"]} for row in tiny.samples(SAMPLES + EVALUATED)]

    def run(trainer_class, name, *, batch=SAMPLES, **overrides):
        trainer = trainer_class(
            model=load(folder),
            args=SFTConfig(output_dir=str(tmp_path / name), bf16=False, **settings(batch, **overrides)),
            train_dataset=Dataset.from_list(rows[:SAMPLES]),
            eval_dataset=Dataset.from_list(rows[SAMPLES:]),
            processing_class=tokenizer,
        )
        trainer.train()
        return trainer

    return run


def test_the_plugin_file_trains_dft_however_the_step_is_split(train, folder, tmp_path):
    from plugins.hf_trainer_dft import DftTrainer

    whole = train(DftTrainer, "whole", batch=8, per_device_eval_batch_size=8)
    assert_by_hand(whole, folder, tmp_path / "whole", "transformers")
    ones, fours = train(DftTrainer, "ones", batch=1), train(DftTrainer, "fours", batch=4)
    assert_same(ones, whole)
    assert_same(fours, whole)


def test_trl_trains_dft(train_trl, folder, tmp_path):
    from trl import SFTTrainer

    from dft_plugin.integrations.hf_trainer import with_loss

    Trainer = with_loss(SFTTrainer, "dft", FUSED)
    whole = train_trl(Trainer, "whole", loss_type="nll", per_device_eval_batch_size=8)
    assert_by_hand(whole, folder, tmp_path / "whole", "trl")
    assert_same(train_trl(Trainer, "twos", batch=2), whole)


def test_sft_is_trl_as_it_comes(train_trl):
    from trl import SFTTrainer

    from dft_plugin.integrations.hf_trainer import with_loss

    ours = train_trl(with_loss(SFTTrainer, "sft", FUSED), "ours", batch=2)
    stock = train_trl(SFTTrainer, "stock", batch=2)
    assert_same(ours, stock, ("loss", "grad_norm", "mean_token_accuracy", "num_tokens"))
    a, b = steps(ours, "eval_loss")[-1], steps(stock, "eval_loss")[-1]
    assert a["eval_loss"] == pytest.approx(b["eval_loss"], rel=1e-5)
    assert a["eval_mean_token_accuracy"] == pytest.approx(b["eval_mean_token_accuracy"])
    # an entropy of the whole vocabulary would need the logits
    assert "entropy" in steps(stock)[0] and "eval_entropy" in b
    assert "entropy" not in steps(ours)[0] and "eval_entropy" not in a
    logits = train_trl(with_loss(SFTTrainer, "sft", {"fused": False}), "logits", batch=2)
    assert_same(logits, stock, ("loss", "grad_norm", "mean_token_accuracy", "entropy"))


def test_a_second_loss_is_refused(train, train_trl):
    from transformers import Trainer
    from trl import SFTTrainer

    from dft_plugin.integrations.hf_trainer import with_loss

    with pytest.raises(ConflictError, match='Set loss_type="nll"'):
        train_trl(with_loss(SFTTrainer, "sft"), "two", loss_type="dft")
    for option, value in (("label_smoothing_factor", 0.1), ("use_liger_kernel", True)):
        with pytest.raises(ConflictError, match=option):
            train(with_loss(Trainer, "dft"), option, batch=8, **{option: value})
    with pytest.raises(ConflictError, match="Remove compute_loss_func"):
        train(lambda **arguments: with_loss(Trainer, "dft")(compute_loss_func=len, **arguments), "own", batch=8)


def test_models_whose_labels_are_not_the_next_tokens_are_refused(tmp_path):
    from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration, Trainer
    from transformers import TrainingArguments as Arguments

    from dft_plugin.integrations.hf_trainer import with_loss

    size = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    masked = BertForMaskedLM(BertConfig(**size, intermediate_size=8))
    pair = T5ForConditionalGeneration(T5Config(vocab_size=16, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    for model in (masked, pair):
        with pytest.raises(ConflictError, match=f"{type(model).__name__} is not a causal language model"):
            with_loss(Trainer, "dft")(model=model, args=Arguments(output_dir=str(tmp_path), use_cpu=True))


@pytest.mark.parametrize("option", [{"reduction": "sample_mean"}, {"sample_weight": "w"}])
def test_options_that_need_tagged_samples_are_refused(option):
    from transformers import Trainer

    from dft_plugin.integrations.hf_trainer import with_loss

    with pytest.raises(ConflictError, match="has no such data"):
        with_loss(Trainer, "dft", option)
