"""Ask a trained tiny model the toy problems: greedily, and several times at temperature 1."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from dft_eval.metrics import Estimate, mean_by_problem, score_share
from dft_eval.tasks.toy import MAX_RESPONSE_CHARACTERS, ToyProblem, grade
from dft_plugin.analysis.token_probs import TokenProbs, token_probs
from dft_plugin.demo.tiny_model import END, chat_prompt

MAX_NEW_TOKENS = MAX_RESPONSE_CHARACTERS + 8
_BATCH_SIZE = 500


@dataclass(frozen=True)
class Answer:
    """One response and its verdict.

    Attributes:
        sample_id: The problem.
        repeat: Which of the problem's answers.
        response: Text before the end-of-sequence token.
        passed: Whether it is right.
        status: `ok`, `wrong`, `no_answer` or `truncated`.
    """

    sample_id: str
    repeat: int
    response: str
    passed: bool
    status: str


@dataclass(frozen=True)
class Answers:
    """An arm's answers to one set of problems in one way of decoding."""

    answers: tuple[Answer, ...]

    @property
    def score(self) -> Estimate:
        """Share of right answers with its interval."""
        return score_share([float(a.passed) for a in self.answers], [a.sample_id for a in self.answers])

    @property
    def by_problem(self) -> dict[str, float]:
        """Share of right answers to each problem."""
        return mean_by_problem([float(a.passed) for a in self.answers], [a.sample_id for a in self.answers])

    def count(self, status: str) -> int:
        """Return the number of answers with that status."""
        return sum(answer.status == status for answer in self.answers)

    def write(self, path: Path) -> None:
        """One JSON record an answer."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(asdict(answer)) + "\n" for answer in self.answers), encoding="utf-8")


class TinyModel:
    """A trained model on the CPU.

    Args:
        folder: Of the model and its tokenizer.
    """

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)  # matrices this small gain nothing from more, and waiting threads cost a lot
        self._tokenizer = Qwen2Tokenizer.from_pretrained(folder)
        self._model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def ask(self, problems: Sequence[ToyProblem], *, num_samples: int, seed: int | None) -> Answers:
        """Answers to problems whose prompts are equally long.

        Args:
            problems: What to ask.
            num_samples: Answers a problem.
            seed: Of the samples at temperature 1; None decodes greedily.
        """
        asked = [(problem, repeat) for problem in problems for repeat in range(num_samples)]
        answers: list[Answer] = []
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.manual_seed(seed)
            for start in range(0, len(asked), _BATCH_SIZE):
                answers += self._ask_batch(asked[start : start + _BATCH_SIZE], is_greedy=seed is None)
        return Answers(tuple(answers))

    def token_probs(self, problems: Sequence[ToyProblem]) -> TokenProbs:
        """Probabilities of the tokens of the right solutions, the end-of-sequence token included."""
        rows = [
            (self._tokenize(chat_prompt(problem.prompt)), self._tokenize(problem.solution + END))
            for problem in problems
        ]
        length = max(len(prompt) + len(target) for prompt, target in rows)
        input_ids = torch.full((len(rows), length), int(self._tokenizer.pad_token_id))
        labels = torch.full((len(rows), length), -100)
        for row, (prompt, target) in enumerate(rows):
            end = len(prompt) + len(target)
            input_ids[row, :end] = torch.tensor(prompt + target)
            labels[row, len(prompt) : end] = torch.tensor(target)
        return token_probs(self._model, [(input_ids, labels)])

    def _tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    @torch.no_grad()
    def _ask_batch(self, asked: Sequence[tuple[ToyProblem, int]], *, is_greedy: bool) -> list[Answer]:
        input_ids = torch.tensor([self._tokenize(chat_prompt(problem.prompt)) for problem, _ in asked])
        sampling: dict[str, Any] = {"do_sample": not is_greedy}
        if not is_greedy:
            sampling |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
        output = self._model.generate(
            input_ids, attention_mask=torch.ones_like(input_ids), max_new_tokens=MAX_NEW_TOKENS, **sampling
        )
        return [
            self._grade(problem, repeat, tokens)
            for (problem, repeat), tokens in zip(asked, output[:, input_ids.shape[1] :].tolist(), strict=True)
        ]

    def _grade(self, problem: ToyProblem, repeat: int, tokens: list[int]) -> Answer:
        end = int(self._tokenizer.eos_token_id)
        has_stopped = end in tokens
        response = self._tokenizer.decode(tokens[: tokens.index(end)] if has_stopped else tokens)
        verdict = grade(problem, response, has_stopped=has_stopped)
        return Answer(problem.sample_id, repeat, response, verdict.passed, verdict.status)
