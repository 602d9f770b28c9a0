"""Normalised text as tokens: numbers, commands, signs, single letters, upright words."""

import re

from data.domains.formulas.nodes import UnreadableError

UPRIGHT = re.compile(r"\\(?:text|mathrm) ?\{([^{}]*)\}")
KET = re.compile(r"\|([^|]*?)\\rangle")
_TOKEN = re.compile(
    r"\\(?:text|mathrm) ?\{[^{}]*\}|\|[^|]*?\\rangle"
    r"|(?:\d+(?:\.\d+)?|\.\d+)[eE][+-]?\d+(?![\d.]|[A-Za-z])|\d+(?:\.\d+)?|\.\d+"
    r"|\\[A-Za-z]+|\\.|<=>|<=|>=|!=|->|=>|==|\*\*|:=|[A-Za-z]+\d*|\S"
)
_SIGNS = {
    "<=": "\\le",
    ">=": "\\ge",
    "!=": "\\ne",
    "->": "\\to",
    "=>": "\\Rightarrow",
    "==": "=",
    "**": "^",
    ":=": "=",
    "<=>": "\\Leftrightarrow",
}
FUNCTION_NAMES = frozenset(
    "sin cos tan cot sec csc sinh cosh tanh coth sech csch arcsin arccos arctan arccot arcsec arccsc asin acos atan "
    "arsinh arcosh artanh arcsinh arccosh arctanh exp ln log lg gcd lcm min max det deg dim erf erfc sgn sign arg Re "
    "Im tr rank".split()
)
GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi "
    "chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega".split()
)
_SPELLED = GREEK | {"sqrt", "infty", "cdot", "times", "frac", "pm", "hbar"}
_OTHERWISE = {"inf": "infty", "infinity": "infty", "oo": "infty", "Infinity": "infty"}
_SHORT_WORDS = frozenset("no on up in is if so he me we us my do go be by at as an am or of ok it to us".split())
_WORDS = frozenset(
    "and or for all the not yes true false odd even none inch inches foot feet mile miles yard gram grams hour hours "
    "day days year years week second mph kph pct cent cents dollar dollars euro unit units with when where then than "
    "min sec".split()
)
_INNER_VOWELS = frozenset("aeou")
_FORMULA = re.compile(r"[\d\\^_+=*/()<>|{}\[\]]")
_VOWELS = frozenset("aeiouAEIOU")
_DIFFERENTIALS = re.compile(r"d[a-zA-Z]d[a-zA-Z](?:d[a-zA-Z])?")
MAX_TOKENS = 1500


def tokens(text: str) -> list[str]:
    """Words stay whole, so that the grammar refuses them but in names. Raises UnreadableError for too many tokens."""
    found: list[str] = []
    is_prose = not _FORMULA.search(text)
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0].isascii() and token[0].isalpha():
            found.extend(_letters(token, is_prose=is_prose))
        else:
            found.append(_SIGNS.get(token, token))
        if len(found) > MAX_TOKENS:
            raise UnreadableError(f"more than {MAX_TOKENS} signs")
    return found


def _letters(run: str, *, is_prose: bool) -> list[str]:
    """Letters that stand together, with digits behind: a name that is spelled out, or symbols side by side."""
    name = run.rstrip("0123456789")
    digits = run[len(name) :]
    behind = [digits] if digits else []
    if name in FUNCTION_NAMES or name in _SPELLED:
        return [f"\\{name}", *behind]
    if name in _OTHERWISE and not digits:
        return [f"\\{_OTHERWISE[name]}"]
    head = next((name[:length] for length in (6, 3, 2) if name[:length] in _PREFIXES), "")
    if head and len(name) - len(head) <= 2:
        return [f"\\{head}", *name[len(head) :], *behind]
    if len(name) > 1 and (digits or is_word(name, is_prose=is_prose)):
        return [run]
    return [name, "_", "{", digits, "}"] if digits else list(name)


_PREFIXES = frozenset({"sin", "cos", "tan", "log", "ln", "cot", "sec", "csc", "arcsin", "arccos", "arctan"})


def is_word(name: str, *, is_prose: bool) -> bool:
    """Whether letters side by side are a word and no product: with a vowel, and in another order than the alphabet's.

    Where nothing but letters is given (`is_prose`), short ones are words, too; among signs `iydl` and `Edq` are products.
    """
    if name.lower() in _WORDS or (is_prose and name in _SHORT_WORDS):
        return True
    is_sorted = list(name.lower()) == sorted(name.lower())
    if len(name) < 3 or not _VOWELS & set(name) or is_sorted or _DIFFERENTIALS.fullmatch(name):
        return False
    if is_prose:
        return len(name) > 3 or name.islower() or name.istitle()
    return len(name) > 4 or (len(name) == 4 and name.islower() and bool(_INNER_VOWELS & set(name[1:3])))
