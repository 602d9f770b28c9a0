r"""The subject of a mathematics problem: a top-level class of the Mathematics Subject Classification (MSC 2020), as the paper uses.

A rule, not a model: each class has words and notation that speak for it; every one that stands in the problem counts its weight once,
and the class with the largest sum wins, the earlier one of equals. Without any, a problem with a formula is 12, one told in words with
numbers 97 (school mathematics), and another one 00. How well it agrees with sets that name their subjects stands in docs/curation.md.
"""

import re
from functools import cache

SUBJECTS: dict[str, str] = {
    "00": "general",
    "03": "logic and foundations",
    "05": "combinatorics",
    "11": "number theory",
    "12": "polynomials and fields",
    "15": "linear algebra",
    "20": "groups and algebraic structures",
    "26": "calculus",
    "30": "complex analysis",
    "33": "elementary and special functions",
    "34": "differential equations",
    "40": "sequences and series",
    "46": "functional analysis and measure",
    "51": "geometry",
    "54": "topology",
    "60": "probability",
    "62": "statistics",
    "90": "optimisation",
    "97": "school mathematics",
}
_SIGNS: tuple[tuple[str, float, str], ...] = (
    ("34", 5, r"differential equation|\\frac\{d\s*y\}\{d\s*[xt]\}|y\^\{?\\prime"
     r"|y''|initial[- ]value problem|laplace transform|微分方程"),
    ("34", 3, r"\bODE\b|y'\s*[=+(-]"),
    ("15", 4, r"\bmatri(?:x|ces)\b|eigenv|determinant|linear transformation"
     r"|\bvector space|\\begin\{[pbv]matrix\}|矩阵|行列式|特征值"),
    ("15", 2, r"\bbasis\b|\brank\b|orthogonal|\\mathbf\{[a-z]\}|\\vec"
     r"|cross product|dot product|\\operatorname\{proj\}|向量"),
    ("20", 4, r"\b(?:abelian|cyclic|finite|sylow|galois|symmetric|lie) (?:sub)?groups?\b"
     r"|homomorphism|\bideal\b|\bcommutative ring|isomorphi"),
    ("46", 4, r"banach|hilbert space|\bL\^[p2]\b|measurable|lebesgue"
     r"|\bnorm(?:ed)? space|bounded linear operator|sigma-algebra"),
    ("54", 4, r"topolog|homotop|homolog|compact space|manifold|fundamental group|hausdorff|metric space"),
    ("30", 4, r"holomorphic|\bcontour integral|residue|analytic function|\\oint|entire function|柯西"),
    ("60", 4, r"probabilit|\bexpected value|random variable"
     r"|\bfair (?:coin|die|dice)|at random|independent events|概率|随机变量|期望"),
    ("60", 2, r"\bdice\b|\bcoins? (?:is|are) (?:tossed|flipped)|poisson|variance|brownian|markov"),
    ("62", 4, r"confidence interval|hypothesis test|standard deviation|regression"
     r"|\bsample mean|median of the (?:data|list|set)|quartile|方差|样本"),
    ("11", 4, r"\bprimes?\b|divisib|\bdivisors?\b|\\pmod|\bmod(?:ulo)?\b|remainder when"
     r"|greatest common|least common|\bgcd\b|\blcm\b|relatively prime"),
    ("11", 3, r"\bbase[- ](?:\$?\d|two|ten|eight|\$?b)|perfect squares?|units? digit"
     r"|integer solutions|diophantine|_\{?\d\}?\$? in base|整除|质数|余数"),
    ("11", 1, r"\bpositive integers?\b|\bdigits?\b|\bmultiples?\b|\bconsecutive\b"),
    ("05", 4, r"\bhow many (?:different |distinct |possible )?(?:ways|arrangements|paths|subsets|permutations|committees)"),
    ("05", 3, r"permutation|\\binom|\bchoose\b|combinatori|\bgraph with \S+ vert"
     r"|\bcolou?rings?\b|distinguishable|\bgrid\b|tournament|排列|组合数|种不同"),
    ("05", 1, r"\bhow many\b.*\b(?:can|possible|different|distinct)\b"),
    ("51", 4, r"triangle|circle|polygon|rectangle|\bsquare \$?[A-Z]{4}|quadrilateral"
     r"|trapezoid|parallelogram|tetrahedron|\bsphere|\bcone\b|cylinder"),
    ("51", 3, r"\\angle|\bradius\b|perimeter|\bhypotenuse|ellipse"
     r"|parabola|hyperbola|\bvolume of\b|三角形|圆|椭圆|抛物线|双曲线|棱锥|棱柱"),
    ("51", 2, r"\barea\b|\bangles?\b|\bparallel\b|perpendicular|\\triangle"
     r"|diagonal|midpoint|\bcube\b|\bslope\b|coordinates?"),
    ("40", 4, r"(?:arithmetic|geometric|infinite|telescoping|power|taylor|maclaurin) (?:sequence|series|progression)"
     r"|converges?\b|数列"),
    ("40", 3, r"\\sum|\bsequence\b|recurrence|\bseries\b|\bfibonacci"),
    ("26", 4, r"\\int|derivative|\\lim\b|differentiab|antiderivative|\bintegral"
     r"|critical points?|inflection|tangent line|导数|极限|积分|单调"),
    ("26", 3, r"\\partial|gradient|continuous|concav|f'\(|f\^\{?\\prime"
     r"|\\frac\{d\}\{d\s*\w\}|\bcurl\b|divergence of"),
    ("33", 3, r"\\(?:sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan)\b|\\log|\\ln|trigonometric|logarithm"),
    ("12", 3, r"polynomial|\broots? of\b|quadratic|\bfactor(?:ed|ing|ise|ize)?\b"
     r"|\bcoefficient|complex numbers?|\bi\^2|多项式|复数"),
    ("12", 2, r"\bsolve for\b|\bsolve\b|\bequation\b|simplif|\bexpression\b"
     r"|rational function|\bexpand\b|\\sqrt|inequalit|\bvalue of \$?[a-z]\b|f\(x\)"),
    ("90", 3, r"linear program|\bmaximi[sz]e\b|\bminimi[sz]e\b|lagrange multiplier|constraint|optimal|最大利润"),
    ("90", 1, r"\b(?:maximum|minimum|largest|smallest) (?:possible )?value"),
    ("03", 4, r"\btruth table|propositional|\bfirst-order logic|\bset of all sets|cardinality|\\forall|命题|充分条件|必要条件"),
)  # fmt: skip
_EVERYDAY = re.compile(
    r"\b(?:dollars?|cents?|hours?|minutes?|days?|weeks?|years? old|miles?|pounds?|boys?|girls?|students?|apples?|eggs?|books?|buys?|sells?|"
    r"costs?|pays?|spends?|eats?|each|per|twice|total)\b|\$\d|[元千克米个只本]",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"\$[^$]*[a-z][^$]*\$|\\\(|\\\[|\b[a-z]\s*[=^+]|=\s*[a-z]\b")
_LEAST_EVERYDAY = 3


@cache
def _compiled() -> tuple[tuple[str, float, re.Pattern[str]], ...]:
    return tuple((code, weight, re.compile(pattern, re.IGNORECASE)) for code, weight, pattern in _SIGNS)


def subject_of(prompt: str) -> str:
    """Two digits, a key of `SUBJECTS`."""
    scores: dict[str, float] = {}
    for code, weight, pattern in _compiled():
        if pattern.search(prompt):
            scores[code] = scores.get(code, 0.0) + weight
    everyday = len(_EVERYDAY.findall(prompt))
    best = max(scores, key=lambda code: scores[code], default="")
    if everyday >= _LEAST_EVERYDAY and scores.get(best, 0.0) < everyday and "\\" not in prompt:
        return "97"
    return best or ("12" if _FORMULA.search(prompt) else "97" if any(map(str.isdigit, prompt)) else "00")
