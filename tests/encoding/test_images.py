"""Scans of a tiny Qwen2.5-VL: masks around images and numbers against plain float64 teacher forcing."""

import json

import pytest
import torch

from dft_plugin.encoding.datasets import read_datasets
from dft_plugin.encoding.encoder import Encoder
from dft_plugin.errors import InputError
from dft_plugin.scan.run import ScanSettings, run_scan
from tests.integrations.tiny_vl import make_vl_model, write_vl_data

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import AutoProcessor

    folder = tmp_path_factory.mktemp("scan_vl")
    make_vl_model(folder / "model")
    processor = AutoProcessor.from_pretrained(folder / "model")
    processor.chat_template = processor.tokenizer.chat_template = TEMPLATE
    processor.save_pretrained(folder / "model")
    rows = write_vl_data(folder / "images", 4)
    text_only = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "it is 5"}]}
    (folder / "pictures.json").write_text(json.dumps([*rows, text_only]))
    return folder


def inputs(processor, row):
    """Inputs and labels of a conversation of one exchange, without any of the package's code."""
    from PIL import Image

    question, answer = (message["content"] for message in row["messages"])
    question = question.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    images = [Image.open(path) for path in row.get("images", [])] or None
    encoded = processor(text=[f"{prompt}{answer}<|im_end|>\n"], images=images, return_tensors="pt")
    num_prompt = processor(text=[prompt], images=images, return_tensors="pt")["input_ids"].shape[1]
    labels = encoded["input_ids"].clone()
    labels[:, :num_prompt] = -100
    return encoded, labels


def test_masks_and_numbers(folder, tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder / "model")
    (dataset,) = read_datasets([folder / "pictures.json"])
    encoder = Encoder(processor.tokenizer, processor, "chat", 2048)
    plain = AutoModelForImageTextToText.from_pretrained(folder / "model", dtype=torch.float64).eval()
    probs = []
    for row, record in zip(dataset.rows, json.loads((folder / "pictures.json").read_text()), strict=True):
        encoded, labels = inputs(processor, record)
        sample = encoder.encode(row)
        assert sample.input_ids == encoded["input_ids"][0].tolist() and sample.labels == labels[0].tolist()
        with torch.no_grad():
            p = plain(**encoded).logits[0, :-1].softmax(-1)
        kept = labels[0, 1:] >= 0
        probs.append(p[kept].gather(-1, labels[0, 1:][kept, None])[:, 0])
    p = torch.cat(probs)
    settings = ScanSettings(
        str(folder / "model"), (folder / "pictures.json",), tmp_path / "out", device="cpu", batch_size=3
    )
    result = run_scan(settings)
    total = result["total"]
    assert total["num_measured"] == 5 and total["num_tokens"] == len(p) and result["measured"]["path"] == "fused"
    assert total["nll"] == pytest.approx(float(-p.log().mean()), rel=1e-4)
    assert total["mean_p"] == pytest.approx(float(p.mean()), rel=1e-3)
    assert total["classes"]["image_adjacent"]["num_tokens"] > 0


def test_cutting_an_image_is_counted(folder):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folder / "model")
    (dataset,) = read_datasets([folder / "pictures.json"])
    assert Encoder(processor.tokenizer, processor, "chat", 6).encode(dataset.rows[0]).status == "too_long"
    whole = Encoder(processor.tokenizer, processor, "chat", 2048).encode(dataset.rows[0])
    cut = Encoder(processor.tokenizer, processor, "chat", len(whole.input_ids) - 1).encode(dataset.rows[0])
    assert cut.status == "ok" and cut.is_truncated and len(cut.labels) == len(whole.labels) - 1
    shapes = {key: tuple(value.shape) for key, value in cut.tensors.items()}
    assert shapes["attention_mask"] == (1, len(cut.input_ids))
    assert shapes["pixel_values"] == tuple(whole.tensors["pixel_values"].shape)


def test_refusals(folder, tmp_path):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folder / "model")
    row = {"query": "<image>q", "response": "a", "images": ["absent.png"]}
    (tmp_path / "d.json").write_text(json.dumps([row]))
    (dataset,) = read_datasets([tmp_path / "d.json"])
    with pytest.raises(InputError, match=r"'d', row 1: image .*absent\.png cannot be read"):
        Encoder(processor.tokenizer, processor, "chat", 512).encode(dataset.rows[0])
    processor.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(InputError, match="list of parts as it is"):
        Encoder(processor.tokenizer, processor, "chat", 512).encode(dataset.rows[0])
