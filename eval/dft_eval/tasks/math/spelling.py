r"""Respell what models write as plain LaTeX: unicode signs, delimiters, styles, e-notation, repeating decimals.

Nothing here changes what a text means. Where a sign has two meanings (an en dash between two numbers is a range or a
difference) it stays as it is, and the text cannot be read.
"""

from __future__ import annotations

import re

_SIGNS = {
    **dict.fromkeys("\u2212\ufe63\u207b", "-"),
    **dict.fromkeys("×✕✖⨯", r" \times "),
    **dict.fromkeys("·⋅∙•", r" \cdot "),
    **dict.fromkeys("\u00a0\u2002\u2003\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
    **dict.fromkeys("′’", "'"),
    **{"÷": "/", "∕": "/", "⁄": "/", "±": r" \pm ", "∓": r" \mp ", "≤": r" \le ", "⩽": r" \le ", "≥": r" \ge "},
    **{
        "⩾": r" \ge ",
        "≠": r" \ne ",
        "≈": r" \approx ",
        "≡": r" \equiv ",
        "∞": r" \infty ",
        "°": r"^{\circ}",
        "º": r"^{\circ}",
    },
    **{"˚": r"^{\circ}", **dict.fromkeys("€£¥₹", " ")},  # as dollars go
    **{"∪": r" \cup ", "∩": r" \cap ", "∈": r" \in ", "∅": r" \emptyset ", "⌀": r" \emptyset ", "∖": r" \setminus "},
    **{"…": r" \ldots ", "⋯": r" \cdots ", "∶": ":", "、": ",", "。": ".", "Ω": r" \Omega ", "Å": r" \text{Å}"},
    **{"ℝ": r" \mathbb{R} ", "ℤ": r" \mathbb{Z} ", "ℕ": r" \mathbb{N} ", "⟨": r" \langle ", "⟩": r" \rangle "},
    **{"→": r" \to ", "∧": r" \land ", "∨": r" \lor ", "‰": r"\text{per mille}"},
}
_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨ\u00b5",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
        "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi mu".split(),
        strict=True,
    )
)
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_TABLE = str.maketrans({**_SIGNS, **{letter: rf"\{name} " for letter, name in _GREEK.items()}}) | _FULL_WIDTH
_SUPERSCRIPTS, _SUBSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "₀₁₂₃₄₅₆₇₈₉₊₋ₙ"
_PLAIN = "0123456789+-n"
_FRACTIONS = {
    **{"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5)},
    **{"⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8), "⅐": (1, 7)},
    **{"⅑": (1, 9), "⅒": (1, 10)},
}
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_RAISED = re.compile(f"[{_SUPERSCRIPTS}]+")
_LOWERED = re.compile(f"[{_SUBSCRIPTS}]+")
_ROOT = re.compile(r"([√∛∜])\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[A-Za-z]))")
_LEADING_DASH = re.compile(r"(?<![\w)}\]])[\u2010-\u2014](?=\s*[\d.\\A-Za-z(])")
_EXPONENT_DASH = re.compile(r"(?<=\d[eE])[\u2010-\u2014](?=\d)")
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]")
_SIZES = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|tiny|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge|Huge"
    r"|bfseries|itshape|rmfamily|bf|it|rm|sf|tt|boldmath)(?![A-Za-z])\s*"
)
_STYLES = re.compile(
    r"\\(?:(?:textcolor|colorbox|fcolorbox)\s*(?:\[[^\[\]]*\])?\s*\{[^{}]*\}|color\s*\{[^{}]*\}(?=\s*\{)"
    r"|bm|boldsymbol|pmb|mathbf|mathit|mathsf|mathtt|mathnormal|underline|uline|emph|ensuremath|boxed|fbox|framebox"
    r"|operatorname\*?(?=\s*\{(?:\\|\d)))\s*\{"
)
_COLOUR = re.compile(r"\\color\s*\{[^{}]*\}\s*")
_SPACE = re.compile(r"\\[hv]space\*?\s*\{[^{}]*\}|\\(?:hfill|phantom\s*\{[^{}]*\}|,\s*$)")
_E_NOTATION = re.compile(r"(?<![\w.\\{}])(\d+(?:\.\d*)?|\.\d+)[eE]([+-]?\d{1,4})(?![\w.])")
_POWER_OF_TEN = re.compile(r"(?<=\d)\s*[xX*]\s*(?=10\s*(?:\^|\*\*))")
_REVERSED = re.compile(r"([\[\]])([^\[\](),]+,[^\[\](),]+)([\[\]])")  # `]2,5[`
_BUILT = re.compile(
    r"\\\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid(?![a-z])|\\vert|\||:)((?:(?!\\in(?![a-z])).)*(?:[<>]|\\[lg]eq?(?![a-z]))"
    r"(?:(?!\\in(?![a-z])).)*)\\\}"
)
_OR_BETWEEN_INTERVALS = re.compile(r"(?<=[\])])\s*(?:\\text\s*\{\s*or\s*\}|(?<=\s)or(?=\s))\s*(?=[(\[])")
_STAR_POWER = re.compile(r"\*\*\s*(?=[-+]?[\d(])")
_SIGNED_POWER = re.compile(r"\^\s*([-+]\d+)(?!\d)")
_WRAPPED_E = re.compile(
    r"(?<=\d)\s*\\(?:text|mathrm|rm)\s*\{\s*[eE]\s*(-?)\s*\}\s*(?:\{\s*([-+]?\d{1,4})\s*\}|([-+]?\d{1,4}))"
)
_REPEATING = re.compile(r"(?<![\w.])(\d+)\.(\d*)\\(?:overline|bar|dot)\s*(?:\{(\d+)\}|(\d))")
_OR = re.compile(r"\s*(?:\\text\s*\{\s*(?:或|或者)\s*\}|或者?|\\lor(?![A-Za-z])|\\vee(?![A-Za-z]))\s*")
_AND = re.compile(r"\s*(?:\\text\s*\{\s*(?:和|与|及|以及)\s*\}|[和与及])\s*")
_PERCENT = re.compile(r"(?<=\d)\s*(?:\\text\s*\{\s*per\s?cent\s*\}|per\s?cent(?![a-z]))")
_RATIO = re.compile(r"(?<=\d)\s*(?:\\text\s*\{\s*to\s*\}|(?<= )to(?= ))\s*(?=\d)")


def respell(text: str) -> str:
    """Rewrite one answer or reference as plain LaTeX."""
    text = _LEADING_DASH.sub("-", _EXPONENT_DASH.sub("-", text))
    text = _RAISED.sub(lambda match: "^{" + _lower(match[0], _SUPERSCRIPTS) + "}", text)
    text = _LOWERED.sub(lambda match: "_{" + _lower(match[0], _SUBSCRIPTS) + "}", text)
    for sign, (above, below) in _FRACTIONS.items():
        text = text.replace(sign, rf"\frac{{{above}}}{{{below}}}")
    text = _ROOT.sub(lambda match: f"{_ROOTS[match[1]]}{{{match[2] or match[3] or match[4]}}}", text)
    text = _OR.sub(r" \\text{ or } ", _AND.sub(r" \\text{ and } ", text.translate(_TABLE)))
    text = _RATIO.sub(":", _unstyled(_SPACE.sub(" ", _DELIMITERS.sub(" ", text))))
    text = _REPEATING.sub(_as_fraction, _PERCENT.sub(r"\\%", text))
    text = _POWER_OF_TEN.sub(r" \\times ", text)
    text = _SIGNED_POWER.sub(r"^{\1}", _STAR_POWER.sub("^", text))
    text = _WRAPPED_E.sub(lambda match: f"e{match[1]}{match[2] or match[3]}", text)
    text = _E_NOTATION.sub(lambda match: rf"{match[1]} \times 10^{{{int(match[2])}}}", text)
    text = re.sub(r"\\(?:dots[bcmio]?|cdots|ldots|textellipsis)(?![A-Za-z])|\.{3,}", r"\\ldots", text)
    text = _as_set(text.strip())
    return re.sub(r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset", text).strip()


def _as_set(text: str) -> str:
    r"""An interval with reversed brackets, a set of those `x` that fulfil an inequality, intervals joined by `or`."""
    if (reversed_ := _REVERSED.fullmatch(text)) and reversed_[1] + reversed_[3] != "[]":
        left, inside, right = reversed_.groups()
        return ("(" if left == "]" else "[") + inside + (")" if right == "[" else "]")
    if built := _BUILT.fullmatch(text):
        return built[2].strip()
    return _OR_BETWEEN_INTERVALS.sub(r" \\cup ", text) if "\\infty" in text else text


def _lower(text: str, raised: str) -> str:
    return text.translate(str.maketrans(raised, _PLAIN))


def _unstyled(text: str) -> str:
    """Take sizes, colours and weights off; what they hold stays."""
    text = _SIZES.sub("", text)
    while match := _STYLES.search(text):
        end = _closing(text, match.end())
        if end is None:
            break
        text = text[: match.start()] + text[match.end() : end] + text[end + 1 :]
    text = _COLOUR.sub("", text).strip()
    while text.startswith("{") and _closing(text, 1) == len(text) - 1:
        text = text[1:-1].strip()
    return text


def _closing(text: str, start: int) -> int | None:
    """Place of the brace that closes the one before `start`; None where none does."""
    depth, place = 1, start
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] in "{}":
            depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return place
        place += 1
    return None


def _as_fraction(match: re.Match[str]) -> str:
    r"""A fraction for `0.1\overline{6}`, exactly."""
    whole, fixed, period = match[1], match[2], match[3] or match[4]
    below = (10 ** len(period) - 1) * 10 ** len(fixed)
    above = int(whole + fixed + period) - int(whole + fixed)
    return rf"\frac{{{above}}}{{{below}}}"
