"""The Python program that a careful reader of a chat answer would run."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence

from dft_eval.tasks.code.code_blocks import code_blocks, indented_blocks, plain_text

MAX_CHARACTERS = 200_000
"""A longer answer is not taken apart: it is no answer to a HumanEval problem."""

_MAX_TRIMS = 40
_MAX_STARTS = 60
_INDENT = "    "
_OUTSIDE_CALLS = frozenset({"print", "input", "exit", "quit", "main", "testmod", "run_tests", "check", "test"})
_READS = frozenset({"input"})
_PROMPT_MARK = re.compile(r"^\s*(?:>>> ?|\.\.\. ?|In \[\d+\]: |\s*\.\.\.: )")
_SHELL_LINE = re.compile(r"^\s*(?:[!%]\w|\$ |pip3? install ).*$", re.MULTILINE)
_STARTS_CODE = re.compile(
    r"^\s*(?:def |class |import |from |@|async def |#|[A-Za-z_]\w*\s*(?::[^=]+)?=[^=])|^\s*$|^[ \t]"
)
_TYPOGRAPHY = str.maketrans({"\u00a0": " ", "\u200b": "", "\ufeff": "", "\u2060": "", "\u201c": '"', "\u201d": '"'})


def read_python_answer(response: str, prompt: str, entry_point: str) -> str:
    """The program an answer stands for.

    Of several blocks the last that defines the function counts, definitions without a body aside; what it needs and
    lacks comes from the other blocks and from the prompt. An answer that defines no such function is the body of
    the prompt's, if it can be. Calls, assertions and prints beside the definitions are not run.

    Args:
        response: All a model wrote, up to its end token.
        prompt: The problem: imports, helpers and the head of the function.
        entry_point: The function's name.

    Returns:
        The source; empty where there is nothing to run.
    """
    if len(response) > MAX_CHARACTERS:
        return response
    text = plain_text(response)
    if not text.strip():
        return ""
    blocks = code_blocks(text)
    sources = [source for block in blocks if (source := _source(block, entry_point)) is not None]
    if (chosen := _last_defining(sources, entry_point)) is None and (loose := _loose_source(text, entry_point)):
        sources, chosen = [*sources, loose], loose
    if chosen is None:
        indented = [source for block in indented_blocks(text) if (source := _source(block, entry_point)) is not None]
        chosen = _last_defining(indented, entry_point)
    if chosen is not None:
        return _with_supplies(chosen, [each for each in sources if each != chosen], prompt, entry_point)
    for body in reversed(blocks) if blocks else [text]:
        if (whole := _as_body(body, prompt, entry_point)) is not None:
            return whole
    return f"{prompt}{blocks[-1] if blocks else text}"


def parse_quietly(source: str) -> ast.Module | None:
    """The syntax tree; None where there is none."""
    return _parse(source)[0]


def _parse(source: str) -> tuple[ast.Module | None, int]:
    """The tree, or the line on which reading failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a backslash before a letter, in code that is not ours
        try:
            return ast.parse(source), 0
        except SyntaxError as error:
            return None, error.lineno or 1
        except (ValueError, RecursionError, MemoryError, OverflowError):
            return None, 1


def _source(block: str, entry_point: str) -> str | None:
    """A block as source that can be read: as it stands, mended, or its longest beginning that holds the function."""
    for variant in dict.fromkeys(_mended(block)):
        if parse_quietly(variant) is not None:
            return variant
    for variant in dict.fromkeys(_mended(block)):
        trimmed = _trimmed(variant)
        if trimmed is not None and _defines(trimmed, entry_point):
            return trimmed
    return None


def _mended(block: str) -> Iterator[str]:
    yield block
    block = block.translate(_TYPOGRAPHY)
    yield block
    yield textwrap.dedent(block)
    without_shell = _SHELL_LINE.sub("", block)
    yield without_shell
    yield textwrap.dedent(without_shell.expandtabs(4))
    lines = block.split("\n")
    if any(_PROMPT_MARK.match(line) for line in lines):
        marked = [_PROMPT_MARK.sub("", line, count=1) for line in lines if _PROMPT_MARK.match(line)]
        yield "\n".join(marked)
    if all(re.match(r"^\s*\d+[ :.|]|^\s*$", line) for line in lines):
        yield textwrap.dedent(re.sub(r"^\s*\d+[:.|]?", "", block, flags=re.MULTILINE))


def _trimmed(source: str) -> str | None:
    """The source before what cannot be read; None where nothing is left."""
    for _ in range(_MAX_TRIMS):
        tree, line = _parse(source)
        if tree is not None:
            return source if tree.body else None
        shorter = "\n".join(source.split("\n")[: max(line - 1, 0)]).rstrip()
        if len(shorter) >= len(source.rstrip()):
            shorter = source.rstrip().rpartition("\n")[0]
        if not shorter.strip():
            return None
        source = shorter + "\n"
    return None


def _defines(source: str, entry_point: str) -> bool:
    tree = parse_quietly(source)
    return tree is not None and _definition(tree, entry_point) is not None


def _definition(tree: ast.Module, entry_point: str) -> ast.stmt | None:
    """The statement that gives the function: its own, an assignment, or a class with a method of its name."""
    found: ast.stmt | None = None
    for node in tree.body:
        if entry_point in _bound_names(node) and not isinstance(node, (ast.Import, ast.ImportFrom)):
            found = node
    if found is None:
        found = next((node for node in tree.body if _method(node, entry_point) is not None), None)
    return found


def _method(node: ast.stmt, name: str) -> ast.stmt | None:
    if not isinstance(node, ast.ClassDef):
        return None
    return next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == name), None)


def _has_body(source: str, entry_point: str) -> bool:
    """Return True where the function has a body; `pass`, `...` and `raise NotImplementedError` are placeholders."""
    tree = parse_quietly(source)
    node = _definition(tree, entry_point) if tree is not None else None
    if node is not None and (method := _method(node, entry_point)) is not None:
        node = method
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node is not None
    return not all(_is_placeholder(each) for each in node.body)


def _is_placeholder(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Raise) and "NotImplemented" in ast.dump(node))


def _last_defining(sources: Sequence[str], entry_point: str) -> str | None:
    defining = [source for source in sources if _defines(source, entry_point)]
    whole = [source for source in defining if _has_body(source, entry_point)]
    candidates = whole or defining
    return candidates[-1] if candidates else None


def _loose_source(text: str, entry_point: str) -> str | None:
    """The function among prose, with the code directly above and below it; the last one that is there."""
    lines = text.translate(_TYPOGRAPHY).split("\n")
    heads = [
        index
        for index, line in enumerate(lines)
        if re.match(
            rf"^(?:\s|>>> )*(?:async )?(?:def {re.escape(entry_point)}\s*\(|{re.escape(entry_point)}\s*=\s*lambda)",
            line,
        )
    ]
    for head in reversed(heads):
        start = head
        while start > 0 and (
            _STARTS_CODE.match(lines[start - 1]) or lines[start - 1].startswith((")", "]", "}", '"""'))
        ):
            start -= 1
        for first in (start, head):
            for variant in dict.fromkeys(_mended("\n".join(lines[first:]))):
                trimmed = _trimmed(variant)
                if trimmed is not None and _defines(trimmed, entry_point) and _has_body(trimmed, entry_point):
                    return trimmed
    return None


def _as_body(text: str, prompt: str, entry_point: str) -> str | None:
    """The prompt with a text as the function's body; None where it cannot be one."""
    lines = [
        line for line in text.translate(_TYPOGRAPHY).expandtabs(4).split("\n") if not line.strip().startswith("```")
    ]
    prompt = prompt.rstrip() + "\n"
    for start in range(min(len(lines), _MAX_STARTS)):
        if not lines[start].strip() or _is_word(lines[start]):
            continue
        for body in _indented(lines[start:]):
            whole = _trimmed_body(prompt, body)
            if whole is not None and _does_something(whole, entry_point):
                return whole
    return None


def _is_word(line: str) -> bool:
    """Return True for a line of one name only, which Python would look up: a heading, or prose."""
    tree = parse_quietly(line.strip())
    return tree is not None and all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Name) for node in tree.body
    )


def _indented(lines: Sequence[str]) -> Iterator[str]:
    """A body as it stands, with its first line moved to where the second is, and moved in as a whole."""
    text = "\n".join(lines)
    first, *rest = lines
    following = next((line for line in rest if line.strip()), "")
    width = len(following) - len(following.lstrip())
    seen = dict.fromkeys(
        (
            text,
            "\n".join((_INDENT + first.lstrip(), *rest)) if width else text,
            textwrap.indent(textwrap.dedent(text), _INDENT),
        )
    )
    yield from (each for each in seen if each.startswith(_INDENT[0]))


def _trimmed_body(prompt: str, body: str) -> str | None:
    lines = body.split("\n")
    for _ in range(_MAX_TRIMS):
        whole = prompt + "\n".join(lines) + "\n"
        tree, failed = _parse(whole)
        if tree is not None:
            return whole
        keep = failed - 1 - prompt.count("\n")
        lines = lines[: min(max(keep, 0), len(lines) - 1)]
        if not any(line.strip() for line in lines):
            return None
    return None


def _does_something(source: str, entry_point: str) -> bool:
    """Return True where a completed prompt's function returns: prose that happens to be Python does not."""
    tree = parse_quietly(source)
    node = _definition(tree, entry_point) if tree is not None else None
    return node is not None and any(isinstance(each, (ast.Return, ast.Yield)) for each in ast.walk(node))


def _with_supplies(source: str, others: Sequence[str], prompt: str, entry_point: str) -> str:
    """The source without its trial calls, and in front what it needs of the prompt and of the other blocks."""
    tree = parse_quietly(source)
    assert tree is not None, "chosen because it can be read"
    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    kept = [node for node in tree.body if node not in futures and not _is_trial(node, entry_point)]
    parts = [_segment(source, node) for node in futures]
    parts += [_segment(prompt_head, node) for prompt_head, node in _prompt_supplies(prompt, entry_point)]
    bound = {name for node in kept for name in _bound_names(node)}
    parts += list(_borrowed(others, _used_names(kept) - bound, entry_point))
    parts += [_segment(source, node) for node in kept]
    definition = _definition(ast.Module(kept, []), entry_point)
    if isinstance(definition, ast.ClassDef):
        parts.append(f"{entry_point} = {definition.name}().{entry_point}")
    return "\n".join(parts) + "\n"


def _prompt_supplies(prompt: str, entry_point: str) -> Iterator[tuple[str, ast.stmt]]:
    """Imports, helpers and constants of the prompt; the function itself stays out."""
    source = prompt.rstrip() + f"\n{_INDENT}pass\n"
    tree = parse_quietly(source)
    for node in tree.body if tree is not None else ():
        if entry_point not in _bound_names(node) and not isinstance(node, ast.Expr):
            yield source, node


def _borrowed(others: Sequence[str], wanted: Iterable[str], entry_point: str) -> list[str]:
    """Imports, and definitions by the names that are wanted, of other blocks; those of a later block come later."""
    found: list[str] = []
    names = set(wanted)
    for source in reversed(others):
        tree = parse_quietly(source)
        if tree is None:
            continue
        taken: list[ast.stmt] = []
        for node in reversed(tree.body):
            bound = _bound_names(node)
            if bound & names and entry_point not in bound and not _is_trial(node, entry_point):
                taken.append(node)
                names |= _used_names([node])
        found = [_segment(source, node) for node in reversed(taken)] + found
    return found


def _is_trial(node: ast.stmt, entry_point: str) -> bool:
    """Return True for a top-level statement that tries the function out, or is only a text."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)):
        return False
    if isinstance(node, ast.Assert) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return True
    if entry_point in _bound_names(node):
        return False
    names = _used_names([node])
    is_value = isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign))
    return entry_point in names or "__name__" in names or bool(names & (_READS if is_value else _OUTSIDE_CALLS))


def _bound_names(node: ast.stmt) -> set[str]:
    """Names a top-level statement gives a value."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}


def _used_names(nodes: Iterable[ast.AST]) -> set[str]:
    loads = (each for node in nodes for each in ast.walk(node))
    names = {each.id for each in loads if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}
    return names | {each.attr for node in nodes for each in ast.walk(node) if isinstance(each, ast.Attribute)} & {
        "testmod"
    }


def _segment(source: str, node: ast.stmt) -> str:
    """The lines of a statement, decorators included."""
    decorators = getattr(node, "decorator_list", [])  # absent: no definition
    first = min([node.lineno, *(each.lineno for each in decorators)])
    lines = source.split("\n")[first - 1 : node.end_lineno]
    if node.end_lineno == node.lineno and not decorators:  # `a = 1; b = 2`
        return ast.get_source_segment(source, node) or "\n".join(lines)
    return "\n".join(lines)
