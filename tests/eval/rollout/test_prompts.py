"""What is asked: rows of any usual shape, each prompt once, and nothing without a reference."""

import gzip
import json

import pytest

from dft_eval.errors import ConfigError, RecordsError
from dft_eval.rollout.config import PromptSettings
from dft_eval.rollout.prompt import dump_prompts, load_prompts
from dft_eval.rollout.prompts import read_prompts
from tests.eval.rollout.rollout_files import write_rows


def read(tmp_path, rows, interface="chat", limit=None, **settings):
    file = write_rows(tmp_path / "rows.jsonl", rows)
    return read_prompts(PromptSettings(file=file, **{"prompt": "q", "gold": "a", **settings}), interface, limit)


def user(text):
    return {"role": "user", "content": text}


def test_a_text_becomes_a_chat_with_template_and_system(tmp_path):
    found = read(tmp_path, [{"q": "1+1?", "a": "2"}], template="{prompt} Put it in \\boxed{}.", system="Be brief.")
    (prompt,) = found.prompts
    assert prompt.messages == ({"role": "system", "content": "Be brief."}, user("1+1? Put it in \\boxed{}."))
    assert prompt.golds == ("2",) and prompt.text == ""


def test_messages_are_asked_up_to_the_last_answer(tmp_path):
    talk = [user("hi"), {"role": "assistant", "content": "hello"}, user("1+1?"), {"role": "assistant", "content": "3"}]
    (prompt,) = read(tmp_path, [{"q": talk, "a": "2"}]).prompts
    assert prompt.messages == tuple(talk[:3])


def test_a_completion_is_sent_the_template_and_trained_on_the_question(tmp_path):
    (prompt,) = read(tmp_path, [{"q": "1+1?", "a": "2"}], "completion", template="Question: {prompt}\nAnswer:").prompts
    assert prompt.text == "Question: 1+1?\nAnswer:" and prompt.messages == (user("1+1?"),)
    assert prompt.sample(("\n",), 9).prompt == prompt.text


@pytest.mark.parametrize(
    ("form", "text", "gold"),
    [
        ("whole", " 2 ", "2"),
        ("hashes", "1+1=2\n#### 2", "2"),
        ("box", "so \\boxed{3} no \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ],
)
def test_references(tmp_path, form, text, gold):
    assert read(tmp_path, [{"q": "?", "a": text}], gold_form=form).prompts[0].golds == (gold,)
    assert read(tmp_path, [{"q": "?", "a": [text, text]}], gold_form=form).prompts[0].golds == (gold, gold)


def test_repeated_prompts_are_asked_once_and_contradictory_ones_never(tmp_path):
    rows = [{"q": q, "a": a} for q, a in (("x", "1"), ("y", "2"), ("x", "1"), ("z", "3"), ("y", "4"), ("w", "5"))]
    found = read(tmp_path, rows)
    assert [prompt.messages[0]["content"] for prompt in found.prompts] == ["x", "z", "w"]
    assert found.counts == {"rows": 6, "duplicates": 1, "contradictory": 1}
    assert len(read(tmp_path, rows, limit=2).prompts) == 2


def test_a_prompt_is_known_wherever_it_stands(tmp_path):
    rows = [{"q": f"{number}?", "a": "1"} for number in range(5)]
    first = read(tmp_path, rows).prompts
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in reversed(rows)).encode()))
    again = read_prompts(PromptSettings(file=file, prompt="q", gold="a"), "chat").prompts
    assert again == first[::-1] and len({prompt.prompt_id for prompt in again}) == 5


def test_prompts_come_back_from_the_run_folder(tmp_path):
    prompts = read(tmp_path, [{"q": "Grüß\u2028 Gott?", "a": ["1", "2"]}]).prompts
    file = tmp_path / "prompts.jsonl"
    file.write_text(dump_prompts(prompts))
    assert load_prompts(file) == prompts
    file.write_text(dump_prompts(prompts)[:-20])
    with pytest.raises(RecordsError, match=r"prompts\.jsonl cannot be read"):
        load_prompts(file)


@pytest.mark.parametrize(
    ("row", "settings", "complaint"),
    [
        ({"q": "x"}, {}, r"line 1 has no column 'a'; found: 'q'"),
        ({"q": "x", "a": 5}, {}, r"column 'a': a text or a list"),
        ({"q": "x", "a": " "}, {}, r"column 'a' is empty"),
        ({"q": "x", "a": "5"}, {"gold_form": "box"}, r"has no closed .boxed"),
        ({"q": "x", "a": "5"}, {"gold_form": "hashes"}, r"nothing after ####"),
        ({"q": " ", "a": "5"}, {}, r"there is no question"),
        ({"q": 7, "a": "5"}, {}, r"a text or messages"),
        ({"q": [{"role": "assistant", "content": "hi"}], "a": "5"}, {}, r"there is no question"),
        ([1], {}, r"line 1 is not an object"),
    ],
)
def test_rows_that_cannot_be_asked_are_named(tmp_path, row, settings, complaint):
    with pytest.raises(RecordsError, match=complaint):
        read(tmp_path, [row], **settings)


def test_files_that_are_none(tmp_path):
    with pytest.raises(RecordsError, match=r"cannot be read"):
        read_prompts(PromptSettings(file=tmp_path / "absent.jsonl", prompt="q", gold="a"), "chat")
    (tmp_path / "cut.jsonl").write_text('{"q": "x", "a": "1"}\n{"q": "y"')
    with pytest.raises(RecordsError, match=r"line 2 is not JSON"):
        read_prompts(PromptSettings(file=tmp_path / "cut.jsonl", prompt="q", gold="a"), "chat")
    with pytest.raises(ConfigError, match=r"holds no prompt to ask"):
        read(tmp_path, [])
    with pytest.raises(RecordsError, match=r"single questions"):
        read(tmp_path, [{"q": [user("a"), user("b")], "a": "1"}], "completion")
