"""Waits for the device that a whole step of the loss adds to the model's own: one for text, two with images."""

import pytest
import torch

from dft_plugin.config import LossConfig
from dft_plugin.training.trainer_loss import TrainerLoss
from tests.device_waits import CountedWaits
from tests.integrations import tiny_families, tiny_vl

pytestmark = [pytest.mark.llamafactory, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def text_batch(folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        tiny_families.make_model("qwen3_moe", folder), output_router_logits=True, attn_implementation="eager"
    )
    inputs = {"input_ids": torch.randint(250, (2, 12)), "attention_mask": torch.ones(2, 12, dtype=torch.long)}
    return model, inputs


def image_batch(folder):
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = tiny_vl.make_vl_model(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager")
    text = "<|vision_start|><|image_pad|><|vision_end|>add the two numbers then carry one and write it down"
    images = Image.new("RGB", (56, 56), "red")
    return model, dict(AutoProcessor.from_pretrained(folder)(text=[text], images=[images], return_tensors="pt"))


@pytest.mark.parametrize("loss_config", [{}, {"fused": False}, {"renormalise": "mean_one", "floor": 0.1}])
@pytest.mark.parametrize(("make", "expected"), [(text_batch, 1), (image_batch, 2)], ids=["text", "images"])
def test_a_step_adds_few_waits(make, expected, loss_config, tmp_path):
    model, inputs = make(tmp_path / "model")
    model.train()
    labels = inputs["input_ids"].clone()
    labels[:, :-6] = -100
    loss = TrainerLoss(LossConfig.parse("dft", loss_config))
    loss.attach(model)
    count = (labels[:, 1:] != -100).sum()

    def step():
        with loss.forward(model, {**inputs, "labels": labels}, num_items_in_batch=count) as plain:
            outputs = model(**{key: value for key, value in plain.items() if key != "labels"})
            return loss(outputs, plain["labels"], count)

    step().backward()  # proofs and self-tests of the first one
    with CountedWaits() as ours:
        step()
    with CountedWaits() as own:
        model(**inputs, labels=labels)
    assert loss.path.name == ("logits" if loss_config.get("fused") is False else "fused")
    assert ours.found - own.found == {"tolist": expected}
