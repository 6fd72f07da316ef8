"""Classes of a real byte-level BPE vocabulary, and of labels."""

import time

import pytest
import torch

from dft_plugin.core.token_classes import CLASSES, TokenClasses, class_of_text
from dft_plugin.demo.bpe_tokenizer import make_bpe_tokenizer
from tests.conftest import require

EOS, TEMPLATE, DIGITS, CODE, IMAGE, OTHER = range(6)
A, B, END, PLACEHOLDER = 1, 2, 3, 4  # in the small vocabulary below


@pytest.fixture(scope="module")
def tokenizer():
    require(_has_transformers(), "transformers")
    from tests.integrations import tiny

    texts = [row["question"] + row["answer"] for row in tiny.samples(50)]
    return make_bpe_tokenizer(texts, vocab_size=tiny.VOCAB_SIZE, extra_tokens=("<|image_pad|>", "</s>"))


def _has_transformers():
    import importlib.util

    return importlib.util.find_spec("transformers") is not None


@pytest.fixture
def small():
    return TokenClasses(torch.tensor([DIGITS, OTHER, OTHER, EOS, TEMPLATE]))


def names(classes, tokenizer, text):
    return [CLASSES[i] for i in classes.classify(torch.tensor(tokenizer(text)["input_ids"]))]


def test_real_tokenizer(tokenizer):
    classes = TokenClasses.of_tokenizer(tokenizer, vocab_size=len(tokenizer) + 3)
    assert classes.table.shape == (len(tokenizer) + 3,) and classes.table.dtype == torch.int64
    assert names(classes, tokenizer, "<|im_end|><|endoftext|></s>") == ["eos"] * 3
    assert names(classes, tokenizer, "<|im_start|><|image_pad|>") == ["template"] * 2
    assert names(classes, tokenizer, "4 2") == ["digits", "other", "digits"]
    assert names(classes, tokenizer, "{") == names(classes, tokenizer, "\n") == ["code"]
    assert set(names(classes, tokenizer, "what remains")) == {"other"}
    assert classes.table[len(tokenizer) :].tolist() == [OTHER] * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ġ42", DIGITS),
        ("▁7", DIGITS),
        ("²", OTHER),  # one byte of some letter, in byte-level BPE
        ("1st", OTHER),
        ("Ġ", OTHER),
        ("ĠĠ", CODE),
        ("ĠĠĠfoo", OTHER),
        ("ĊĊ", CODE),
        (".Ċ", OTHER),
        ("<0x0A>", CODE),
        ("<0xE4>", OTHER),
        ("Ġ==", CODE),
        ("self_", CODE),
        ("(", OTHER),
        ("", OTHER),
        (None, OTHER),
        (b"\n", CODE),
    ],
)
def test_text(text, expected):
    assert class_of_text(text) == expected


def test_ignored_and_unknown_labels_are_other(small):
    assert small.classify(torch.tensor([[-100, 0, 3, 99]])).tolist() == [[OTHER, DIGITS, EOS, OTHER]]


def test_image_adjacent_are_the_first_kept_tokens_after_an_image(small):
    # image, prompt, ten answer tokens one of them a digit, end, then a packed sample without an image
    inputs = [PLACEHOLDER, A, A, *[B] * 3, 0, *[B] * 6, END, A, B, B]
    labels = [-100, -100, -100, *inputs[3:14], -100, B, B]
    found = small.classify(torch.tensor([labels]), torch.tensor([inputs]), [PLACEHOLDER])[0].tolist()
    assert found[:3] == [OTHER] * 3
    assert found[3:11] == [IMAGE] * 3 + [DIGITS] + [IMAGE] * 4
    assert found[11:] == [OTHER, OTHER, EOS, OTHER, OTHER, OTHER]


def test_an_early_end_stops_adjacency(small):
    inputs = torch.tensor([[PLACEHOLDER, B, END, B, B], [B, B, B, B, B]])
    labels = inputs.masked_fill(inputs == PLACEHOLDER, -100)
    found = small.classify(labels, inputs, [PLACEHOLDER])
    assert found.tolist() == [[OTHER, IMAGE, EOS, OTHER, OTHER], [OTHER] * 5]


def test_a_large_vocabulary_is_quick(tokenizer):
    class Large:
        eos_token_id, all_special_ids = 5, [5]

        def __len__(self):
            return 151_936

        def get_added_vocab(self):
            return {"<|im_end|>": 5}

        def convert_ids_to_tokens(self, ids):
            return [f"Ġword{i}" for i in ids]

    start = time.perf_counter()
    table = TokenClasses.of_tokenizer(Large()).table
    assert time.perf_counter() - start < 2
    assert (table == EOS).sum() == 1 and (table == OTHER).sum() == 151_935
