"""docs/protocols.md is made from the code: `python -m tests.eval.test_protocol_page` writes it anew."""

from pathlib import Path

from dft_eval.tasks.catalog import TASKS
from dft_eval.tasks.code.protocols import HUMANEVAL_STOPS

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"
FIELDS = ("interface", "prompt", "cut", "reading", "verdict", "source")
HEAD = """\
# Protocols

How each benchmark asks, where an answer ends, how it is read and what passes, side by side, with the source of each
rule. This page is made from the code (`python -m tests.eval.test_protocol_page`) and a test holds it to that.

In every benchmark a text ends at its first end token, of whatever model family (`<|endoftext|>`, `<|im_end|>`, `</s>`,
`<|eot_id|>`, `<end_of_turn>` and others): what follows is no part of the answer. `interface` chooses a benchmark's
first protocol that asks in that form, unless `protocol` says which. In `dft eval score` an `answer` to a code problem
is read as a chat answer under every protocol, a `program` is taken as it is.

HumanEval_23_strlen of MultiPL-E's PHP asks for a function PHP already has: no answer can pass it.

`gsm8k_steps` is **derived** from GSM8K by this project: its figures are no GSM8K scores.

Vision-language benchmarks are asked by VLMEvalKit, with its own prompts; see [evaluation](evaluation.md).
"""


def groups():
    """Benchmarks that share all their rules, by their names."""
    found = {}
    for name, kind in TASKS.items():
        if kind.all_rules:
            found.setdefault(kind.all_rules, []).append(name)
    return {", ".join(f"`{name}`" for name in names): rules for rules, names in found.items()}


def render():
    parts = [HEAD]
    for names, rules in groups().items():
        columns = [rule.name for rule in rules]
        parts.append(
            f"\n## {names}\n\n|  | {' | '.join(f'`{name}`' for name in columns)} |\n|{' --- |' * (len(columns) + 1)}\n"
        )
        for field in FIELDS:
            cells = [shown(getattr(rule, field)) for rule in rules]
            parts.append(f"| {field} | {' | '.join(cells)} |\n")
        if any(rule.stops for rule in rules):
            parts.append(f"| stop texts sent | {' | '.join(texts(rule.stops) for rule in rules)} |\n")
    parts.append(f"\nStop texts of `humaneval` and `humaneval_plus`: {texts(HUMANEVAL_STOPS)}.\n")
    return "".join(parts)


def shown(text):
    return text.replace("|", "\\|").replace("\n", "\\n")


def texts(stops):
    escaped = (stop.replace("\n", "\\n").replace("|", "\\|") for stop in stops)
    return " ".join(f"`` {stop} ``" for stop in escaped) or "none"


def test_every_protocol_stands_on_the_page_as_the_code_has_it():
    assert PAGE.read_text(encoding="utf-8") == render()


def test_every_benchmark_that_asks_by_itself_states_its_rules():
    for name, kind in TASKS.items():
        if ".vision." not in kind.__module__:
            assert tuple(rule.name for rule in kind.all_rules) == kind.protocols, name
        for rule in kind.all_rules:
            assert (rule.interface == "chat") is (rule.name in kind.chat_protocols), (name, rule.name)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
