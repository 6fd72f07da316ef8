"""Which tokens are trained, against expectations made by hand."""

import pytest

from dft_plugin.demo.bpe_tokenizer import make_bpe_tokenizer
from dft_plugin.encoding.datasets import Dataset
from dft_plugin.encoding.encoder import Encoder, choose_interface
from dft_plugin.encoding.row_formats import Row, Turn
from dft_plugin.errors import ConfigError, InputError
from tests.integrations.tiny import VOCAB_SIZE

TURNS = (Turn("user", "What is 1+2?"), Turn("assistant", "it is 3"), Turn("user", "and?"), Turn("assistant", "4"))
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
)
REWRITING = (  # only the last answer is written out
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'user' or loop.last %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def tokenizer():
    return make_bpe_tokenizer(["What is the sum of it and what remains 0123456789+=?"], vocab_size=VOCAB_SIZE)


def row(*turns, text=""):
    return Row("toy", "id", tuple(turns), text, (), "line 1")


def encode(tokenizer, a_row, interface="chat", max_length=512):
    return Encoder(tokenizer, None, interface, max_length).encode(a_row)


def ids_and_labels(tokenizer, *parts):
    """Each part is (text, is trained)."""
    ids, labels = [], []
    for text, is_trained in parts:
        tokens = tokenizer(text)["input_ids"]
        ids += tokens
        labels += tokens if is_trained else [-100] * len(tokens)
    return ids, labels


def test_chat_trains_every_assistant_turn(tokenizer):
    sample = encode(tokenizer, row(*TURNS))
    expected = ids_and_labels(
        tokenizer,
        ("<|im_start|>user\nWhat is 1+2?<|im_end|>\n<|im_start|>assistant\n", False),
        ("it is 3<|im_end|>\n", True),
        ("<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\n", False),
        ("4<|im_end|>\n", True),
    )
    assert (sample.input_ids, sample.labels) == expected and sample.status == "ok"


def test_generation_markers_decide(tokenizer):
    tokenizer.chat_template = MARKED
    sample = encode(tokenizer, row(*TURNS))
    trained = [token for token in sample.labels if token != -100]
    assert tokenizer.decode(trained) == "it is 3<|im_end|>4<|im_end|>"
    assert tokenizer.decode(sample.input_ids).startswith("<|im_start|>user\nWhat is 1+2?<|im_end|>")
    assert len(sample.input_ids) == len(sample.labels)
    assert all(label in (-100, token) for label, token in zip(sample.labels, sample.input_ids, strict=True))


def test_a_template_that_rewrites_turns_is_refused(tokenizer):
    tokenizer.chat_template = REWRITING
    assert encode(tokenizer, row(*TURNS[:2])).status == "ok"
    with pytest.raises(InputError, match="'toy', line 1: the chat template writes turn 2 otherwise"):
        encode(tokenizer, row(*TURNS))


def test_a_template_without_a_generation_prompt_is_refused(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(InputError, match="changes what the assistant says"):
        encode(tokenizer, row(*TURNS[:2]))


def test_a_template_that_raises_is_refused(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('no system turn') }}"
    with pytest.raises(InputError, match="no system turn"):
        encode(tokenizer, row(*TURNS[:2]))


def test_completion_ends_with_eos(tokenizer):
    sample = encode(tokenizer, row(*TURNS[:2]), "completion")
    prompt, response = (tokenizer(text)["input_ids"] for text in ("What is 1+2?", "it is 3"))
    assert sample.input_ids == [*prompt, *response, tokenizer.eos_token_id]
    assert sample.labels == [*[-100] * len(prompt), *response, tokenizer.eos_token_id]


def test_plain_text_is_trained_whole(tokenizer):
    sample = encode(tokenizer, row(text="it is 3"), "completion")
    assert sample.labels == sample.input_ids == [*tokenizer("it is 3")["input_ids"], tokenizer.eos_token_id]


@pytest.mark.parametrize("turns", [TURNS, (Turn("system", "s"), *TURNS[:2])])
def test_completion_takes_one_prompt(tokenizer, turns):
    with pytest.raises(InputError, match="one prompt and one response"):
        encode(tokenizer, row(*turns), "completion")


def test_cutting(tokenizer):
    whole = encode(tokenizer, row(*TURNS[:2]))
    first = next(index for index, label in enumerate(whole.labels) if label != -100)
    cut = encode(tokenizer, row(*TURNS[:2]), max_length=first + 1)
    assert cut.status == "ok" and cut.is_truncated and cut.labels == whole.labels[: first + 1]
    assert encode(tokenizer, row(*TURNS[:2]), max_length=first).status == "no_target"


def dataset(name):
    from pathlib import Path

    return Dataset("d", Path("d.json"), "", name, ())


def test_interface_is_never_guessed():
    assert choose_interface(None, [dataset("messages"), dataset("sharegpt")], "template") == "chat"
    assert choose_interface("completion", [dataset("text")], None) == "completion"
    with pytest.raises(ConfigError, match=r"d\.json are 'alpaca', not conversations; .*--chat .* or --completion"):
        choose_interface(None, [dataset("messages"), dataset("alpaca")], "template")
    with pytest.raises(ConfigError, match="no chat template; say how"):
        choose_interface(None, [dataset("messages")], None)
    with pytest.raises(ConfigError, match="--chat: the tokenizer has no chat template"):
        choose_interface("chat", [dataset("messages")], None)
    with pytest.raises(ConfigError, match="plain text have no turns"):
        choose_interface("chat", [dataset("text")], "template")
