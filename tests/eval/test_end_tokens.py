"""What comes after an end token is no part of an answer, in every domain."""

import pytest

from dft_eval.end_tokens import END_TOKENS, answer_text, cut_at_end_token
from dft_eval.records.schema import Answer
from dft_eval.tasks.catalog import TASKS
from dft_eval.tasks.math.grader import close_graders


@pytest.fixture(autouse=True, scope="module")
def no_grader_stays():
    yield
    close_graders()


@pytest.mark.parametrize("token", END_TOKENS)
def test_the_first_end_token_ends_the_text(token):
    assert cut_at_end_token(f"7{token} and 4 </s>") == "7"
    assert answer_text(Answer("x", completion=f"a{token}b")) == answer_text(Answer("x", response=f"a{token}b")) == "a"
    assert answer_text(Answer("x", program=f"s = '{token}'\n{token}\n")) == f"s = '{token}'\n"


@pytest.mark.parametrize("header", ["<|im_start|>assistant\n", "<s>", "<start_of_turn>model\n", "<|begin_of_text|>"])
def test_the_header_of_the_answer_s_own_turn_ends_nothing(header):
    assert cut_at_end_token(f"{header}7<|im_end|>4") == "7"


@pytest.mark.parametrize("token", ["<|eot_id|>", "<|im_end|>", "</s>", "<end_of_turn>"])
def test_mathematics_and_facts_stop_reading_there(token, data_dir):
    maths = TASKS["math500"](data_dir, "bare-chat")
    sample_id, gold = next((sample_id, gold) for sample_id, gold in maths.golds.items() if gold.isdigit())
    text = f"\\boxed{{{gold}}}{token}user\nAnd this? \\boxed{{x+1}}"
    assert maths.score(Answer(sample_id, completion=text)).status == "ok"
    facts = TASKS["nq_open"](data_dir, "5-shot")
    sample_id, golds = next(iter(facts.golds.items()))
    assert facts.score(Answer(sample_id, completion=f" {golds[0]}{token}")).status == "ok"
