"""The forms in which chat models give one and the same solution, as functions of its parts."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Parts:
    """A solved problem: `whole` is prompt and body, `bare` the function without the prompt's imports and helpers."""

    prompt: str
    body: str
    bare: str
    wrong: str
    name: str

    @property
    def whole(self) -> str:
        return self.prompt + self.body


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.split("\n"))


FORMS: dict[str, Callable[[Parts], str]] = {
    "fence": lambda p: f"```python\n{p.whole}```",
    "fence without language": lambda p: f"```\n{p.whole}\n```",
    "capital language": lambda p: f"```Python3\n{p.whole}\n```",
    "py": lambda p: f"```py\n{p.whole}\n```",
    "language after a blank": lambda p: f"``` python\n{p.whole}\n```",
    "file name": lambda p: f'```python title="solution.py"\n{p.whole}\n```',
    "attribute": lambda p: f"```{{.python .numberLines}}\n{p.whole}\n```",
    "tildes": lambda p: f"~~~python\n{p.whole}\n~~~",
    "four backticks": lambda p: f"````python\n{p.whole}\n````",
    "unclosed": lambda p: f"Sure!\n\n```python\n{p.whole}",
    "unclosed, then prose": lambda p: f"```python\n{p.whole}\n\nThis function works as asked.",
    "closed behind the last line": lambda p: f"```python\n{p.whole.rstrip()}```",
    "indented": lambda p: textwrap.indent(f"```python\n{p.whole}\n```", "   "),
    "in a list": lambda p: "1. The code:\n" + textwrap.indent(f"```python\n{p.whole}\n```", "    ") + "\n2. Done.",
    "quoted": lambda p: _quoted(f"```python\n{p.whole}\n```"),
    "prose around": lambda p: f"Here's the solution:\n\n```python\n{p.whole}```\n\nIt's `O(n)`; don't worry.",
    "CRLF": lambda p: f"Sure:\n```python\n{p.whole}```\n".replace("\n", "\r\n"),
    "BOM": lambda p: f"\ufeff```python\n{p.whole}```",
    "BOM and no fence": lambda p: f"\ufeff{p.whole}",
    "no fence": lambda p: p.whole,
    "no fence, prose around": lambda p: f"Here is the function:\n\n{p.whole}\n\nIt passes the examples above.",
    "no fence, prose directly around": lambda p: f"Here is the function:\n{p.bare}\nThis is what was asked, isn't it?",
    "install command first": lambda p: f"First:\n```bash\npip install numpy\n```\nthen\n```python\n{p.whole}```",
    "plain install command first": lambda p: f"```\npip install numpy\n```\n```\n{p.whole}```",
    "example first": lambda p: f"```python\nprint({p.name}([1, 2]))\n```\nneeds\n```python\n{p.whole}```",
    "example after": lambda p: f"```python\n{p.whole}```\nUse:\n```python\nprint({p.name}(*[1]))\n```",
    "output after": lambda p: f"```python\n{p.whole}```\nOutput:\n```\nTrue\nFalse\n```",
    "corrected later": lambda p: f"```python\n{p.wrong}```\nWait, that is wrong. Corrected:\n```python\n{p.whole}```",
    "signature first": lambda p: f"We need\n```python\ndef {p.name}(*a):\n    ...\n```\nso\n```python\n{p.bare}```",
    "signature after": lambda p: f"```python\n{p.bare}```\nIts form is\n```python\ndef {p.name}(*a):\n    pass\n```",
    "thought": lambda p: f"<think>\nMaybe\n```python\n{p.wrong}```\nno.\n</think>\n```python\n{p.whole}```",
    "thought without its start": lambda p: f"Maybe\n```python\n{p.wrong}```\n</think>\n\n```python\n{p.whole}```",
    "thought after": lambda p: f"```python\n{p.whole}```\n<think>\n```python\n{p.wrong}```\n</think>",
    "reasoning tag": lambda p: f"<reasoning>\n```python\n{p.wrong}```\n</reasoning>\n```python\n{p.whole}```",
    "without the prompt's imports": lambda p: f"```python\n{p.bare}```",
    "without imports, no fence": lambda p: p.bare,
    "body": lambda p: p.body,
    "body in a fence": lambda p: f"The body:\n```python\n{p.body}```",
    "body, outdented": lambda p: f"```python\n{textwrap.dedent(p.body)}```",
    "body, first line outdented": lambda p: p.body.strip(),
    "body behind prose": lambda p: f"Complete it with:\n\n{p.body}",
    "body then example": lambda p: f"```python\n{p.body}```\nTry:\n```python\nprint({p.name}(*[1]))\n```",
    "trial below": lambda p: f"```python\n{p.whole}\n\nprint({p.name}())\nassert {p.name}(0) == 'x'\n```",
    "main guard": lambda p: f"```python\n{p.whole}\n\nif __name__ == '__main__':\n    {p.name}(input())\n```",
    "docstring as text below": lambda p: f'```python\n{p.whole}\n\n"""\nHow it works\n"""\n```',
    "notebook command": lambda p: f"```python\n!pip install numpy\n{p.whole}```",
    "session": lambda p: (
        "```\n"
        + "".join(
            f"{'>>>' if i == 0 or line[:1].strip() else '...'} {line}\n"
            for i, line in enumerate(p.bare.rstrip().split("\n"))
        )
        + "```"
    ),
    "class": lambda p: "```python\nclass Solution:\n    @staticmethod\n" + textwrap.indent(p.bare, "    ") + "```",
    "end token": lambda p: f"```python\n{p.whole}```<|im_end|>\n<|im_start|>user\n```python\n{p.wrong}```",
    "end token of another family": lambda p: f"```python\n{p.whole}```<|eot_id|>assistant ```python\n{p.wrong}```",
    "narrow blanks": lambda p: f"```python\n{p.whole}```".replace("    ", "\u00a0\u00a0\u00a0\u00a0"),
    "tabs": lambda p: f"```python\n{p.bare}```".replace("    ", "\t"),
    "future import": lambda p: f"```python\nfrom __future__ import annotations\n\n{p.bare}```",
    "html": lambda p: f"<pre><code class='python'>\n{p.whole}</code></pre>",
    "html, escaped": lambda p: f"<pre><code>{html.escape(p.whole)}</code></pre>",
    "Markdown's indented block": lambda p: f"Answer:\n\n{textwrap.indent(p.whole, '    ')}\nThat is all.",
    "tagged": lambda p: f"[PYTHON]\n{p.whole}[/PYTHON]",
    "two blocks, helper first": lambda p: f"```python\nimport os\nX = 1\n```\nand\n```python\n{p.bare}```",
    "second fence opens unclosed": lambda p: f"```python\n{p.wrong}\n```python\n{p.whole}```",
    "bold heading": lambda p: f"**Solution**\n\n```python\n{p.whole}```\n\n**Explanation**\n- first\n- second",
    "lambda": lambda p: f"```python\n{p.bare}\n{p.name} = (lambda f: lambda *a: f(*a))({p.name})\n```",
}
