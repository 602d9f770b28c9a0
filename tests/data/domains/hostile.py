"""Seeded hostile answers: towers, factorials, huge exponents, nesting, long digits, lone surrogates, LaTeX commands in odd places."""

import random
from collections.abc import Iterator

COMMANDS = (
    "frac dfrac tfrac cfrac sqrt binom dbinom begin end left right big Big bigl bigr text mathrm mathbf mathbb "
    "mathcal operatorname boxed fbox sum prod int oint iint lim sup inf max min gcd lcm det dim ker log ln lg exp sin "
    "cos tan cot sec csc arcsin arccos arctan sinh cosh tanh alpha beta gamma delta epsilon varepsilon zeta eta theta "
    "vartheta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda "
    "Xi Pi Sigma Phi Psi Omega infty partial nabla hbar ell Re Im aleph emptyset varnothing forall exists in notin ni "
    "subset subseteq supset cup cap setminus times cdot div pm mp ast star circ bullet oplus otimes odot le leq ge "
    "geq ne neq lt gt ll gg approx sim simeq cong equiv propto perp parallel mid nmid to rightarrow leftarrow "
    "Rightarrow Leftrightarrow mapsto iff implies land lor lnot neg wedge vee top bot angle triangle degree prime "
    "dagger langle rangle lfloor rfloor lceil rceil lvert rvert lVert rVert vert Vert lbrace rbrace lbrack rbrack "
    "overline underline bar hat tilde vec dot ddot widehat widetilde overrightarrow underbrace overbrace overset "
    "underset stackrel quad qquad displaystyle limits nolimits over choose atop mod bmod pmod pod not color textcolor "
    "phantom mathring AA S P dag copyright ldots cdots vdots ddots dots hline cline multicolumn substack array matrix "
    "pmatrix cases aligned tag label ref newcommand def let catcode input include write immediate expandafter csname "
    "endcsname relax unknowncommand"
).split()
_ATOMS = (
    "9^",
    "9^{",
    "9!",
    "(9!)!",
    "10^{10^{10}}",
    "9^{9^{9^{9}}}",
    "1e99999999",
    "1e-99999999",
    "50\\%",
    "3:4",
    "x^{1000000}",
    "\\binom{10^9}{5}",
    "\\sum_{k=1}^{10^9}k",
    "\\prod_{k=1}^{9999}(k^2+1)",
    "\\int_0^1",
    "\\exp(\\exp(\\exp(99)))",
    "\\sqrt[10^9]{2}",
    "|",
    "||",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "\\}",
    "$",
    "$$",
    "&",
    "\\\\",
    "_",
    "^",
    "^^",
    "__",
    "'",
    "''",
    "!",
    "!!",
    "\ud800",
    "\udfff",
    "\x00",
    "\x1b[2K",
    "\u202e",
    "²",
    "√",
    "½",
    "⁹⁹⁹",
    "∞",
    "∑",
    "≤",
    "中",
    "或",
    "x",
    "y",
    "f(",
    "f'(",
    "e^",
    "i",
    "0",
    "-",
    "+",
    "--",
    "/",
    "//",
    "*",
    "**",
    "=",
    "==",
    "<",
    ">",
    "<=",
    ",",
    ";",
    ".",
    "...",
    ":",
    "0.\\overline{9}",
    "1_2",
    "_{16}",
    "5 m/s",
    "\\text{m",
    "\\text{ kg}",
    "10^{400}",
    "1/0",
    "0^0",
    "0^{-1}",
    "\\ln 0",
    "\\frac{1}{0}",
    " ",
)


def hostile_answers(number: int, seed: int = 0) -> Iterator[str]:
    """That many texts, the same for one seed."""
    generator = random.Random(seed)
    makers = (_mixture, _mixture, _commands, _nested, _digits, _tower, _repeated)
    for place in range(number):
        yield makers[place % len(makers)](generator)


def _mixture(generator: random.Random) -> str:
    return "".join(_piece(generator) for _ in range(generator.randrange(1, 25)))


def _piece(generator: random.Random) -> str:
    if generator.random() < 0.3:
        return f"\\{generator.choice(COMMANDS)}"
    return generator.choice(_ATOMS)


def _commands(generator: random.Random) -> str:
    parts = []
    for _ in range(generator.randrange(1, 6)):
        parts.append(
            f"\\{generator.choice(COMMANDS)}{generator.choice(['', ' ', '{x}', '{1}{2}', '_1^2', '(', '{', '[3]{x}'])}{_piece(generator)}"
        )
    return generator.choice(["", "x", "3", "x="]) + "".join(parts)


def _nested(generator: random.Random) -> str:
    opening, closing = generator.choice(
        [
            ("(", ")"),
            ("{", "}"),
            ("\\frac{1}{", "}"),
            ("\\sqrt{", "}"),
            ("f(", ")"),
            ("|", "|"),
            ("2^{", "}"),
            ("[", ")"),
            ("\\{", "\\}"),
            ("\\begin{pmatrix}", "\\end{pmatrix}"),
            ("-", ""),
            ("\\sin ", ""),
            ("\\text{", "}"),
            ("\\sum_{k=1}^{9}", ""),
        ]
    )
    depth = generator.randrange(1, 300)
    return (opening * depth + _piece(generator) + closing * generator.choice([depth, depth, depth // 2]))[:2000]


def _digits(generator: random.Random) -> str:
    run = generator.choice("0123456789") * generator.randrange(1, 1990)
    return (
        generator.choice(
            [
                "{}",
                "0.{}",
                "-{}",
                "{}!",
                "1e{}",
                "x^{{{}}}",
                "2^{{{}}}",
                "\\frac{{1}}{{{}}}",
                "{}\\%",
                "{}:3",
                "{} m",
                "{}_7",
                "1,{}",
                "{}.{}",
            ]
        )
        .replace("{{", "{")
        .replace("}}", "}")
        .replace("{}", run)[:2000]
    )


def _tower(generator: random.Random) -> str:
    height = generator.randrange(2, 12)
    base = [generator.choice(["9", "2", "x", "10", "99", "e", "0.5", "i", "(-1)"]) for _ in range(height)]
    tower = "^{".join(base) + "}" * (height - 1)
    return (
        generator.choice(
            [
                "{}",
                "{}!",
                "\\sqrt{{{}}}",
                "\\sin({})",
                "1-{}",
                "\\frac{{{}}}{{7}}",
                "\\lfloor {} \\rfloor",
                "\\gcd({},6)",
                "{}\\bmod 7",
            ]
        )
        .replace("{{", "{")
        .replace("}}", "}")
        .replace("{}", tower)
    )


def _repeated(generator: random.Random) -> str:
    return (_piece(generator) * generator.randrange(1, 900))[:2000]
