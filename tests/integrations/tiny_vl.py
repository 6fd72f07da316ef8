"""A tiny random Qwen2.5-VL with its processor, and images with questions about them."""

from __future__ import annotations

import json
import random
from pathlib import Path

from dft_plugin.demo.bpe_tokenizer import make_bpe_tokenizer
from tests.integrations.tiny import VOCAB_SIZE, samples

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def make_vl_model(folder: Path, *, tie_word_embeddings: bool = False, seed: int = 0) -> Path:
    """A random Qwen2_5_VLForConditionalGeneration of 60 thousand parameters, saved with its processor."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    texts = [row["question"] + row["answer"] for row in samples(50)]
    tokenizer = make_bpe_tokenizer(texts, vocab_size=VOCAB_SIZE, extra_tokens=VISION_TOKENS)
    tokenizer.image_token, tokenizer.video_token = "<|image_pad|>", "<|video_pad|>"
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in VISION_TOKENS}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer) + 3,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
            "initializer_range": 0.3,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": tie_word_embeddings,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=tie_word_embeddings,
    )
    torch.manual_seed(seed)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 16),
        video_processor=Qwen2VLVideoProcessor(),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(folder)
    return folder


def write_vl_data(folder: Path, count: int = 24) -> list[dict]:
    """Random images of unequal sizes, some samples with two; as LLaMA-Factory's sharegpt dataset `toy_vl`.

    Returns:
        The rows, with absolute image paths, `{"messages": [...], "images": [...]}`: ms-swift's own format too.
    """
    from PIL import Image

    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, row in enumerate(samples(count)):
        images = []
        for part in range(1 + index % 2):
            size = (56 + 28 * rng.randrange(3), 56 + 28 * rng.randrange(3))
            path = folder / f"{index}_{part}.png"
            Image.frombytes("RGB", size, rng.randbytes(3 * size[0] * size[1])).save(path)
            images.append(str(path))
        question = "<image>" * len(images) + row["question"]
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": row["answer"]}]
        rows.append({"messages": turns, "images": images})
    register_vl_data(folder, "toy_vl", rows)
    return rows


def mllm_demo_rows(data_dir: Path) -> list[dict]:
    """The real multi-turn, several-image samples, with absolute image paths."""
    source = data_dir / "mllm_demo"
    rows = json.loads((source / "mllm_demo.json").read_text())
    return [{**row, "images": [str(source / image) for image in row["images"]]} for row in rows]


def register_vl_data(folder: Path, name: str, rows: list[dict]) -> None:
    """Add `rows` to the LLaMA-Factory datasets of `folder`."""
    (folder / f"{name}.json").write_text(json.dumps(rows))
    info_path = folder / "dataset_info.json"
    info = json.loads(info_path.read_text()) if info_path.exists() else {}
    info[name] = {
        "file_name": f"{name}.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }
    info_path.write_text(json.dumps(info))
