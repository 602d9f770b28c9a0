r"""Text of an answer in one spelling, the same for gold and answer: what only changes its look is gone.

In: `$\dfrac12 \text{ 或 } x²$`; out: `\frac12 , x^{2}`. Every step takes time in proportion to the length of the text.
"""

import re
import unicodedata
from functools import lru_cache

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ", "0123456789+-()ni")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₘₖₓ", "0123456789+-()nmkx")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₘₖₓ]+")
_VULGAR = re.compile("[¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")
_SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "×": "\\times ", "✕": "\\times ", "⨯": "\\times ",
    "·": "\\cdot ", "⋅": "\\cdot ", "∙": "\\cdot ", "•": "\\cdot ", "∗": "*", "÷": "/", "∕": "/", "⁄": "/", "∶": ":",
    "≤": "\\le ", "≦": "\\le ", "⩽": "\\le ", "≥": "\\ge ", "≧": "\\ge ", "⩾": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "≡": "\\equiv ",
    "≪": "\\ll ", "≫": "\\gg ", "∼": "\\sim ", "∝": "\\propto ", "∞": "\\infty ", "∪": "\\cup ", "∩": "\\cap ", "∖": "\\setminus ",
    "∈": "\\in ", "∉": "\\notin ", "⊂": "\\subset ", "⊆": "\\subseteq ", "⊃": "\\supset ", "⊇": "\\supseteq ", "∅": "\\emptyset ",
    "∧": "\\wedge ", "∨": "\\vee ", "¬": "\\neg ", "⇒": "\\Rightarrow ", "⇔": "\\Leftrightarrow ", "→": "\\to ", "↔": "\\leftrightarrow ",
    "∀": "\\forall ", "∃": "\\exists ", "∂": "\\partial ", "∇": "\\nabla ", "∑": "\\sum ", "∏": "\\prod ", "∫": "\\int ", "±": "\\pm ",
    "∓": "\\mp ", "√": "\\sqrt ", "∛": "\\sqrt[3] ", "∜": "\\sqrt[4] ", "′": "'", "″": "''", "’": "'", "°": "^\\circ ", "∘": "\\circ ",
    "∣": "|", "∥": "\\parallel ", "⊥": "\\perp ", "∠": "\\angle ", "△": "\\triangle ", "⊕": "\\oplus ", "⊗": "\\otimes ", "…": "\\dots ",
    "⋯": "\\dots ", "⟨": "\\langle ", "⟩": "\\rangle ", "〈": "\\langle ", "〉": "\\rangle ", "⌊": "\\lfloor ", "⌋": "\\rfloor ",
    "⌈": "\\lceil ", "⌉": "\\rceil ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "ℚ": "\\mathbb{Q}", "ℂ": "\\mathbb{C}",
    "ℏ": "\\hbar ", "ħ": "\\hbar ", "ℓ": "\\ell ", "，": ",", "、": ",", "；": ";", "：": ":",
    "。": ".", "【": "[", "】": "]", "℃": "^\\circ C",
    "℉": "^\\circ F", "％": "%", "‰": "\\permil ", "\u200b": "", "\ufeff": "", "\u2061": "", "\u2062": " ",
}  # fmt: skip
_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩϵϕϑϱ",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
        "omega Gamma Delta "
        "Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega epsilon phi theta rho".split(),
        strict=True,
    )
)
_CHARACTERS = re.compile("[" + re.escape("".join(_SIGNS) + "".join(_GREEK)) + "]")
_TABLE = _SIGNS | {letter: f"\\{name} " for letter, name in _GREEK.items()}

_SYNONYMS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom", "leq": "le", "leqslant": "le", "leqq": "le",
    "geq": "ge", "geqslant": "ge", "geqq": "ge", "lt": "lt", "neq": "ne", "varepsilon": "epsilon", "varphi": "phi", "vartheta": "theta",
    "varrho": "rho", "hslash": "hbar", "lvert": "vert", "rvert": "vert", "mid": "mid", "lVert": "Vert", "rVert": "Vert",
    "lbrack": "lbrack", "ast": "ast", "degree": "degree", "varnothing": "emptyset", "smallsetminus": "setminus",
    "land": "wedge", "lor": "vee",
    "lnot": "neg", "iff": "Leftrightarrow", "Longleftrightarrow": "Leftrightarrow", "implies": "Rightarrow", "Longrightarrow": "Rightarrow",
    "rightarrow": "to", "longrightarrow": "to", "thickapprox": "approx", "doteq": "approx", "simeq": "approx", "approxeq": "approx",
    "ldots": "dots", "cdots": "dots", "dotsc": "dots", "dotsb": "dots", "dotsm": "dots", "dotso": "dots", "vdots": "dots", "tg": "tan",
    "arctg": "arctan", "ctg": "cot", "arcctg": "arccot", "cosec": "csc", "sh": "sinh", "ch": "cosh", "th": "tanh", "mathbin": "mathrm",
    "textup": "text", "textrm": "text", "textnormal": "text", "textsf": "text", "texttt": "text", "mbox": "text", "hbox": "text",
    "textbf": "text", "textit": "text", "emph": "text", "operatorname": "mathrm", "mathsf": "mathrm",
    "mathtt": "mathrm", "mathit": "mathit",
    "overrightarrow": "vec", "boldsymbol": "mathbf", "bm": "mathbf", "pmb": "mathbf", "bold": "mathbf", "Bbb": "mathbb", "widehat": "hat",
    "widetilde": "tilde", "colon": "colon", "prime": "prime", "owns": "ni", "emptyset": "emptyset", "R": "reals", "Z": "integers",
}  # fmt: skip
_PLAIN = {
    "lt": "<", "gt": ">", "vert": "|", "lbrack": "[", "rbrack": "]", "lbrace": "\\{", "rbrace": "\\}", "ast": "*", "degree": "^\\circ ",
    "colon": ":", "prime": "'", "div": "/", "lparen": "(", "rparen": ")", "reals": "\\mathbb{R}",
    "integers": "\\mathbb{Z}", "bullet": "\\cdot ",
    "permil": "\\permil ", "percent": "\\%", "euro": "\\text{euro}", "pounds": "\\text{pounds}",
}  # fmt: skip
_LOOKS = frozenset(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm Bigm middle displaystyle textstyle "
    "scriptstyle limits nolimits rm bf it mathstrut strut null relax nonumber thinspace negthinspace hfill protect".split()
)
_BOX_LIKE = frozenset(
    {"boxed", "fbox", "underline", "cancel", "mathop", "ensuremath", "underbrace", "mathord", "color", "textcolor"}
)
_SPACES = frozenset({"quad", "qquad"})
_COMMAND = re.compile(r"\\\\|\\([A-Za-z]+)\*?")
_THIN = re.compile(r"(?<!\\)\\[,;:!> ]|~")
_DOLLARS = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z])")
_NULL_DELIMITERS = re.compile(r"\\(?:left|right|big|Big|bigg|Bigg)[lr]?\s?\.(?!\d)")
_COLOUR = re.compile(r"\\(?:color|textcolor)\s?\{[A-Za-z]{1,20}\}")
_EMPHASIS = re.compile(r"(\*\*|__|``|\*|`)(?=[^\s*_`])([^*_`]+)\1")
_SEPARATORS = re.compile(r"\\text ?\{ ?,? ?(?:and|or|and also|;|,|或者|或|和|与|及|以及|且) ?,? ?\}")
_CHINESE_SEPARATORS = re.compile(r"(?:或者|以及|或|和|与|及)")
_SPELLED = re.compile(r"(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|(?<=[\d)\]}])(?:and|or)(?=[-\d(\[{\\A-Z])")
_COMMA_THIN = re.compile(r",(?:\\!|\{\}) ?|\{,\}")
_GROUPED = re.compile(
    r"(?<![\d.,])(?<!\d )(?<!\d, )\b(?!(?<=[(\[])\d{1,3},\d{3}[)\]])"
    r"\d{1,3}(?:([ ,])\d{3})(?:\1\d{3})*(?!\d)(?! \d)(?!, ?\d)"
)
_THIN_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:\\[,;:! ]\d{3})+(?!\d)")
_BARE_POINT = re.compile(r"(?<![\d.])\.(?=\d)")
_MIXED = re.compile(r"(?<![\d.}/^_)])(?<![A-Za-z] )\b(\d{1,9}) (\d{1,9}) ?/ ?(\d{1,9})(?![\d.])")
_REPEATING = re.compile(
    r"(?<![\d.])(\d{0,9})\.(\d{0,12})"
    r"(?:\\(?:overline|dot|bar) ?\{(\d{1,12})\}|\\(?:dot|bar) ?(\d)|\((\d{1,12})\))(?![\d\\])"
)
_DOTTED = re.compile(r"(?<![\d.])(\d{0,9})\.(\d{0,12})\\dot ?\{?(\d)\}?(\d{0,10})\\dot ?\{?(\d)\}?")
_ROOT_SIGN = re.compile(r"\\sqrt (\d+(?:\.\d+)?|[A-Za-z])")
_LEADING = re.compile(
    r"(?:(?:so|thus|hence|therefore|then),? )?(?:the )?(?:(?:final|correct|right) )?(?:answer|solution|result|value) ?(?:is|are|=|:)+:? ?",
    re.IGNORECASE,
)
_LEADING_CHINESE = re.compile(r"(?:故|所以|因此|最终)?(?:最终|正确)?(?:答案|结果|解)(?:是|为|等于|:)+:? ?")
_LEADING_TEXT = re.compile(r"\\text ?\{([^{}]{0,60}(?:\b(?:is|are|be) ?:?|:|为|是|equals) ?)\} ?(?=\S)")
_UPRIGHT_NUMBER = re.compile(r"\\(?:text|mathrm|mathbf|mathit) ?\{ ?([+-]?\d[\d.,/ ]{0,40}%?) ?\}")
_ANGSTROM = re.compile(r"\\(?:overset ?\{?\\circ ?\}? ?\{A\}|mathring ?\{A\}|AA(?![A-Za-z]))")
_LONE_DOLLAR = re.compile(r"\\dollar (?! ?[\d.])")


@lru_cache(maxsize=4096)
def normalised(text: str, *, grouped: bool = True) -> str:
    """The text in one spelling; `grouped`: commas and blanks between groups of three digits belong to a number."""
    text = _characters(text.replace("...", "\\dots "))
    if "\\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)  # as text that was escaped twice has it
    text = _COLOUR.sub(" ", _NULL_DELIMITERS.sub(" ", text.replace("\\$", "\\dollar ")))
    text = _LONE_DOLLAR.sub(" ", text)
    text = _ANGSTROM.sub(r"\\text{Å}", text)
    text = _COMMAND.sub(_command, _DOLLARS.sub(" ", text))
    text = _unboxed(_COMMA_THIN.sub(",", text))
    text = _THIN.sub(" ", _THIN_GROUPED.sub(lambda match: _THIN.sub("", match[0]), text))
    text = _undressed(_unbracketed(" ".join(text.split())))
    text = _UPRIGHT_NUMBER.sub(r"\1", text)
    text = (
        _CHINESE_SEPARATORS.sub(" , ", _SPELLED.sub(" , ", _SEPARATORS.sub(" , ", text)))
        if _is_short_list(text)
        else text
    )
    text = _DOTTED.sub(_twice_dotted, _REPEATING.sub(_repeating, text))
    text = _GROUPED.sub(lambda match: re.sub("[ ,]", "", match[0]), text) if grouped else text
    text = _BARE_POINT.sub("0.", text)
    text = _MIXED.sub(r"(\1+\\frac{\2}{\3})", text)
    text = _ROOT_SIGN.sub(r"\\sqrt{\1}", text)
    text = _without_edges(" ".join(text.split()))
    return _SAID.get(_TEXT.sub(r"\1", text).strip().casefold().rstrip("."), text)


def _without_edges(text: str) -> str:
    """Without separators before and behind."""
    before = ""
    while text != before:
        before = text
        text = (
            text.removeprefix("\\quad ")
            .removesuffix("\\quad")
            .rstrip(". ,;\\" if not text.endswith("\\\\") else ". ,;")
            or text
        )
        text = text.strip()
    return text


def _characters(text: str) -> str:
    """Full-width signs, superscripts, vulgar fractions and Greek letters as LaTeX writes them."""
    text = text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
    if text.isascii():
        return text
    text = _VULGAR.sub(
        lambda match: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", match[0]).split("⁄")), text
    )
    text = _RAISED.sub(lambda match: f"^{{{match[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _LOWERED.sub(lambda match: f"_{{{match[0].translate(_SUBSCRIPTS)}}}", text)
    text = _CHARACTERS.sub(lambda match: _TABLE[match[0]], text)
    return _CHARACTERS.sub(lambda match: _TABLE[match[0]], unicodedata.normalize("NFKC", text))


def _command(match: re.Match[str]) -> str:
    """A command by its common name, and nothing for one that only changes the look."""
    if match[1] is None:
        return match[0]
    name = _SYNONYMS.get(match[1], match[1])
    if name in _LOOKS:
        return " "
    if name.startswith("quad") and len(name) == 5:  # as in `\quadx`
        return f" \\quad {name[-1]}"
    if name in _SPACES:
        return " \\quad "
    if name in _PLAIN:
        return f" {_PLAIN[name]}" if _PLAIN[name][0].isalpha() else _PLAIN[name]
    return f"\\{name}{match[0][len(match[1]) + 1 :]}"


def _unboxed(text: str) -> str:
    r"""Without `\boxed{...}`, `\underline{...}` and the like around anything."""
    if not any(f"\\{name}" in text for name in _BOX_LIKE):
        return text
    text = re.sub(
        r"\\(?:boxed|fbox|underline|cancel|mathop|ensuremath|underbrace|mathord)(?![A-Za-z])", " ", text
    ).strip()
    if text.startswith("{") and text.count("{") == text.count("}") + 1:  # a box that the text's end cuts off
        return text[1:]
    return text[1:-1] if _is_braced(text) else text


def _is_braced(text: str) -> bool:
    """Whether one pair of braces holds the whole."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return place == len(text) - 1 > 0
    return False


def _undressed(text: str) -> str:
    """Without emphasis around the whole, and words before a value."""
    for _ in range(3):
        before = text
        if (wrapped := _WRAPPED.fullmatch(text)) is not None and _has_formula(wrapped[1]):
            text = wrapped[1].strip()
        if (emphasis := _EMPHASIS.fullmatch(text)) is not None:
            text = emphasis[2].strip()
        for pattern in (_LEADING, _LEADING_CHINESE, _LEADING_TEXT):
            if (match := pattern.match(text)) is not None and match.end() < len(text):
                text = text[match.end() :].strip()
        if text == before:
            break
    return text


def _unbracketed(text: str) -> str:
    """Without brackets around brackets: ((7)) is (7)."""
    if not text.startswith("(("):
        return text
    partner, waiting = dict[int, int](), list[int]()
    for place, character in enumerate(text):
        if character == "(":
            waiting.append(place)
        elif character == ")" and waiting:
            partner[waiting.pop()] = place
    start = 0
    while partner.get(start) == len(text) - 1 - start and partner.get(start + 1) == len(text) - 2 - start:
        start += 1
    return text[start : len(text) - start]


_TEXT = re.compile(r"\\text ?\{([^{}]*)\}")
_SAID = {
    **dict.fromkeys(
        (
            "no solution",
            "no solutions",
            "no real solution",
            "no real solutions",
            "empty set",
            "the empty set",
            "无解",
            "空集",
        ),
        "\\emptyset",
    ),
    **dict.fromkeys(
        ("all real numbers", "all reals", "the real numbers", "the set of all real numbers", "全体实数", "一切实数"),
        "\\mathbb{R}",
    ),
    **dict.fromkeys(("infinity", "positive infinity"), "\\infty"),
}
_WRAPPED = re.compile(r"\\text ?\{(.*)\}", re.DOTALL)


def _has_formula(text: str) -> bool:
    """Whether the inside of upright text is a formula: balanced, with signs of mathematics and few words."""
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0 and ("=" in text or "\\" in text) and len(re.findall(r"(?<!\\)\b[A-Za-z]{2,}", text)) <= 1


_VALUE = re.compile(r"[\d\\(){}\[\]=<>]")


def _is_short_list(text: str) -> bool:
    """Values with words between them, and no sentence."""
    return (
        bool(_VALUE.search(_TEXT.sub(r"\1", text))) and len(re.findall(r"[A-Za-z]{3,}", _COMMAND.sub(" ", text))) <= 6
    )


def _repeating(match: re.Match[str]) -> str:
    """A repeating decimal, as 0.1666... = (16 - 1) / 90."""
    return _as_fraction(match[1], match[2], match[3] or match[4] or match[5])


def _twice_dotted(match: re.Match[str]) -> str:
    return _as_fraction(match[1], match[2], match[3] + match[4] + match[5])


def _as_fraction(whole: str, fixed: str, period: str) -> str:
    above = int((whole or "0") + fixed + period) - int((whole or "0") + fixed)
    return f"\\frac{{{above}}}{{{'9' * len(period)}{'0' * len(fixed)}}}"
