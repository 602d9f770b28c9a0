r"""What the grammar knows by name: relations, operators, letters, accents, functions and environments."""

import re

from data.domains.formulas.lexer import GREEK

MAX_TREE_DEPTH, MAX_SERIES = 100, 4  # of a tree, and of sums within sums
MAX_DEPTH, MAX_POSTFIXES, MAX_DIGITS, MAX_EXPONENT = 30, 10, 1500, 400

RELATIONS = frozenset(
    r"= < > \le \ge \ne \approx \sim \equiv \cong \propto \in \notin \ni \subset \subseteq \supset \supseteq "
    r"\subsetneq \supsetneq \nsubseteq \parallel \perp \ll \gg \prec \succ \preceq \succeq \nmid \mapsto".split()
)
ARROWS = frozenset({"\\to", "\\leftrightarrow", "\\Rightarrow", "\\Leftrightarrow", "\\mapsto"})
SET_OPERATORS = frozenset({"\\cup", "\\cap", "\\setminus", "\\triangle"})
OPERATORS = frozenset({"\\circ", "\\oplus", "\\otimes", "\\odot", "\\bmod", "\\mod", "\\star", "\\ominus"})
COMMUTING = frozenset(
    {
        "\\cup",
        "\\cap",
        "\\oplus",
        "\\wedge",
        "\\vee",
        "\\Leftrightarrow",
        "\\leftrightarrow",
        "\\triangle",
        "\\gcd",
        "\\lcm",
        "\\min",
        "\\max",
    }
)
NAMES = GREEK | frozenset(
    "hbar ell aleph nabla partial Re Im angle triangle imath jmath wp beth top bot emptyset infty mho square Box "
    "complement".split()
)
FONTS = frozenset({"\\mathbf", "\\mathcal", "\\mathit", "\\mathbb", "\\mathfrak", "\\mathscr", "\\vec"})
KEPT_FONTS = {"\\mathbb": "bb", "\\mathcal": "cal", "\\mathfrak": "frak", "\\mathscr": "cal"}
ACCENTS = {
    "\\dot": "dot",
    "\\ddot": "ddot",
    "\\bar": "bar",
    "\\overline": "bar",
    "\\tilde": "tilde",
    "\\hat": "hat",
    "\\mathring": "ring",
}
CLOSING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
CLOSERS = frozenset({")", "]", "}", "\\}"})
UNIT_VECTORS = frozenset({"x", "y", "z", "r", "n", "\\theta", "\\phi", "\\rho"})
NO_UNITS = frozenset({"d", "e", "i"})
MARKS = frozenset({"*", "+", "-", "'", "\\dagger", "\\pm", "\\circ", "\\top", "\\prime"})
FUNCTION_LETTERS = frozenset({"f", "g", "F", "G"})
SERIES = frozenset(
    {"\\sum", "\\prod", "\\int", "\\oint", "\\iint", "\\iiint", "\\lim", "\\bigcup", "\\bigcap", "\\sup", "\\inf"}
)
FENCES = {
    "\\lfloor": ("\\rfloor", "floor"),
    "\\lceil": ("\\rceil", "ceil"),
    "\\langle": ("\\rangle", "mean"),
    "\\|": ("\\|", "norm"),
    "\\Vert": ("\\Vert", "norm"),
}
INVERSES = {name: f"arc{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")}
SAME_FUNCTIONS = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "arsinh": "arcsinh",
    "arcosh": "arccosh",
    "artanh": "arctanh",
    "sign": "sgn",
}
CONSTANTS = {"\\pi": "pi", "e": "e", "i": "i", "\\infty": "infinity"}
SPECIAL = {"\\zeta": "zeta", "\\Gamma": "gamma"}
PERCENT = frozenset({"percent", "pct", "percentage", "percents", "per cent"})
SEPARATORS = (",", ";", "\\quad")
MATRICES = frozenset("matrix pmatrix bmatrix Bmatrix smallmatrix array vmatrix".split())
WRAPPERS = frozenset("aligned align align* split gathered equation equation* gather gather* alignedat".split())
STOPS = (
    frozenset(
        {
            "+",
            "-",
            "/",
            ":",
            "^",
            "_",
            "!",
            ".",
            "'",
            "\\cdot",
            "\\times",
            "*",
            "\\over",
            "\\end",
            "\\\\",
            "&",
            "\\rangle",
            "\\pm",
            "\\mp",
            "\\%",
            "%",
        }
    )
    | {"\\rfloor", "\\rceil", "\\mid", "\\wedge", "\\vee", "\\pmod", "\\left", "\\right"}
    | RELATIONS
    | ARROWS
    | SET_OPERATORS
    | OPERATORS
    | frozenset(SEPARATORS)
    | CLOSERS
)
WORDS_OF_CONDITIONS = re.compile(
    r"(?:if|for|when|where|with|as|at|while|and|or|otherwise|else|elsewhere|is|,|\s)*", re.IGNORECASE
)
