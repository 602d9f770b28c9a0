r"""Whether two formulas say the same: each construct by its own rule, scalars by their values.

Lists and sets item by item, pairs and intervals by bracket and place, matrices by entry, cases by branch and condition, relations in
both directions and as multiples of each other, congruences by modulus, real sets by their ends. Scalars exactly where they are rational,
else at points with rising precision, with symbols of both signs. Nothing symbolic happens, and every loop has a limit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from data.domains.formulas.nodes import LETTERS, Node, UnreadableError, negative, number, symbols_of
from data.domains.formulas.realsets import real_set, same_real_set
from data.domains.formulas.sameness import constant_ratio, same_value
from data.domains.formulas.values import exact
from data.domains.policy import DEFAULT_POLICY, Policy
from data.domains.quantities import unit_in_base

_MAX_ITEMS = 60
_EQUAL = frozenset({"=", "\\approx", "\\sim", "\\equiv", "\\cong"})
_ROUNDED = Fraction(1, 50)  # by which sides of an equation may differ, as 1/3 = 0.33 does
_FLIPPED = {
    "<": ">",
    ">": "<",
    "\\le": "\\ge",
    "\\ge": "\\le",
    "\\ll": "\\gg",
    "\\gg": "\\ll",
    "\\in": "\\ni",
    "\\ni": "\\in",
    "\\subset": "\\supset",
    "\\supset": "\\subset",
    "\\subseteq": "\\supseteq",
    "\\supseteq": "\\subseteq",
    "\\prec": "\\succ",
    "\\succ": "\\prec",
    "\\to": "",
    "\\notin": "",
    "\\propto": "",
    "\\nmid": "",
    "\\not": "",
    "\\mapsto": "",
}
_ORDER = {"<": 1, "\\le": 1, "\\ll": 1, ">": -1, "\\ge": -1, "\\gg": -1}


@dataclass(frozen=True, slots=True)
class Rules:
    """How to compare where there is more than one sound way."""

    policy: Policy = DEFAULT_POLICY
    positive: bool = False  # the problem says that its symbols are positive


def same(gold: Node, answer: Node, rules: Rules) -> bool:
    """Whether the answer says what the gold says."""
    golds, answers = statements(gold, rules), statements(answer, rules)
    if len(golds) == len(answers) == 1:
        return _same_statement(golds[0], answers[0], rules)
    golds, answers = _of_list(golds, rules), _of_list(answers, rules)
    for tuple_, named, is_gold in ((golds, answers, True), (answers, golds, False)):
        if len(tuple_) == 1 and tuple_[0].head == "brackets" and tuple_[0].label == "()" and _names(named) is None:
            pair = (tuple_[0].parts, _unnamed(named)) if is_gold else (_unnamed(named), tuple_[0].parts)
            return _pairwise(*pair, rules)
    if _same_lists(golds, answers, rules, is_set=_is_set(gold) or _is_set(answer)):
        return True
    left, right = real_set(gold), real_set(answer)
    return left is not None and right is not None and same_real_set(left, right)


# ---------------------------------------------------------------- statements


def statements(node: Node, rules: Rules) -> list[Node]:
    """The items of a list or, where the braces are optional, of a set; ± as two."""
    node = _reduced(node)
    if node.head == "list":
        items = list(node.parts)
        if node.label == ";":
            items = [_solution(group) for group in items]
    elif (_is_set(node) and rules.policy.braces_are_optional and not any(map(_is_set_itself, node.parts))) or (
        node.head == "brackets" and node.label == "[]" and len(node.parts) > 2
    ):
        items = list(node.parts)
    else:
        items = [node]
    if len(items) > _MAX_ITEMS and any(exact(item) is None for item in items):
        raise UnreadableError(f"more than {_MAX_ITEMS} items")
    return [signed for item in items for signed in both_signs(item)]


def _of_list(items: list[Node], rules: Rules) -> list[Node]:
    """The items of the list or set that a single name is said to be."""
    value = value_of(items[0]) if len(items) == 1 and items[0].head == "relation" else None
    return items if value is None or value.head not in ("brackets", "list") else statements(value, rules)


def _is_set(node: Node) -> bool:
    return node.head == "brackets" and node.label == "{}"


def _is_set_itself(node: Node) -> bool:
    """A set in a set, whose braces say something."""
    return _is_set(node) or node == Node("symbol", (), "\\emptyset")


def _solution(group: Node) -> Node:
    """`p = 5, q = 2` as one of several solutions: the pair of its values."""
    if group.head != "list":
        return group
    values = [item.parts[-1] if item.head == "relation" and item.label == "=" else item for item in group.parts]
    return Node("brackets", tuple(values), "()")


def both_signs(node: Node) -> list[Node]:
    """A node with ± as two nodes."""
    if not any(part.head == "signed" for part in node.walk()):
        return [node]
    return [_with_sign(node, "\\pm"), _with_sign(node, "\\mp")]


def _with_sign(node: Node, plus: str) -> Node:
    parts = tuple(_with_sign(part, plus) for part in node.parts)
    if node.head == "signed":
        return parts[0] if node.label == plus else negative(parts[0])
    return replace(node, parts=parts)


def _reduced(node: Node) -> Node:
    """Sums and products of matrices as one matrix; a group around one thing as that thing."""
    if node.head == "brackets" and node.label == "()" and len(node.parts) == 1:
        return _reduced(node.parts[0])
    if node.head == "call" and node.label == "det" and node.parts[0].head == "matrix":
        return _determinant(node.parts[0]) or node
    if node.head not in ("sum", "product", "quotient") or not any(part.head == "matrix" for part in node.walk()):
        return node
    parts = [_reduced(part) for part in node.parts]
    if node.head == "sum":
        return _matrix_sum(parts) or node
    if node.head == "quotient":
        return (
            _scaled(parts[0], lambda entry: Node("quotient", (entry, parts[1]))) if parts[0].head == "matrix" else node
        )
    result = parts[0]
    for part in parts[1:]:
        result = _matrix_product(result, part)
    return result


def _matrix_sum(parts: Sequence[Node]) -> Node | None:
    if any(part.head != "matrix" or part.label != parts[0].label for part in parts):
        return None
    entries = zip(*(part.parts for part in parts), strict=True)
    return Node("matrix", tuple(Node("sum", tuple(entry)) for entry in entries), parts[0].label)


def _scaled(matrix: Node, scale: Callable[[Node], Node]) -> Node:
    return Node("matrix", tuple(scale(entry) for entry in matrix.parts), matrix.label)


def _matrix_product(left: Node, right: Node) -> Node:
    if left.head != "matrix" or right.head != "matrix":
        for matrix, scalar in ((left, right), (right, left)):
            if matrix.head == "matrix":
                return _scaled(matrix, lambda entry, scalar=scalar: Node("product", (scalar, entry)))
        return Node("product", (left, right))
    (rows, inner), (height, columns) = _shape(left), _shape(right)
    if inner != height or rows * inner * columns > 1000:
        return Node("product", (left, right))
    entries = [
        Node(
            "sum",
            tuple(
                Node("product", (left.parts[row * inner + k], right.parts[k * columns + column])) for k in range(inner)
            ),
        )
        for row in range(rows)
        for column in range(columns)
    ]
    return Node("matrix", tuple(entries), f"{rows}x{columns}")


def _determinant(matrix: Node) -> Node | None:
    """Of a small square matrix, by its first row."""
    rows, columns = _shape(matrix)
    if rows != columns or rows > 4:
        return None
    if rows == 1:
        return matrix.parts[0]
    terms = []
    for column in range(columns):
        entries = [
            matrix.parts[row * columns + place] for row in range(1, rows) for place in range(columns) if place != column
        ]
        minor = _determinant(Node("matrix", tuple(entries), f"{rows - 1}x{rows - 1}"))
        assert minor is not None
        terms.append(Node("product", (number((-1) ** column), matrix.parts[column], minor)))
    return Node("sum", tuple(terms))


def _shape(matrix: Node) -> tuple[int, int]:
    rows, _, columns = matrix.label.partition("x")
    return int(rows), int(columns)


# ---------------------------------------------------------------- lists


def _same_lists(golds: Sequence[Node], answers: Sequence[Node], rules: Rules, *, is_set: bool) -> bool:
    names = _names(golds), _names(answers)
    if None in names:  # the names differ from item to item
        bare, named = (golds, answers) if names[1] is None else (answers, golds)
        if not any(item.head == "relation" for item in bare):
            return _in_place(named, bare, rules)
    elif not names[0] or not names[1] or names[0] == names[1]:
        golds, answers = _unnamed(golds), _unnamed(answers)
    if not rules.policy.order_is_free and not is_set:
        return len(golds) == len(answers) and all(
            _same_statement(g, a, rules) for g, a in zip(golds, answers, strict=True)
        )
    if is_set:
        return all(_is_among(g, answers, rules) for g in golds) and all(
            _is_among(a, golds, rules, is_gold=True) for a in answers
        )
    if len(golds) < len(answers):  # an item given twice
        answers = [item for place, item in enumerate(answers) if not _is_among(item, answers[:place], rules)]
    return len(golds) == len(answers) and _matched(golds, answers, rules)


def _in_place(named: Sequence[Node], bare: Sequence[Node], rules: Rules) -> bool:
    """Values of several names, and values without names in the same order."""
    pairs = zip(_unnamed(named), bare, strict=False)
    return len(named) == len(bare) and all(_same_statement(value, item, rules) for value, item in pairs)


def _names(items: Sequence[Node]) -> str | None:
    """The one name that items are values of, empty where they have none; None where there are several."""
    names = {_name_of(item) for item in items if item.head == "relation"}
    return None if len(names) > 1 else next(iter(names), "")


def _name_of(relation: Node) -> str:
    return repr(relation if value_of(relation) is None else _name(relation))


def _unnamed(items: Sequence[Node]) -> list[Node]:
    values = [(value_of(item) if item.head == "relation" else item) for item in items]
    return [item if value is None else value for item, value in zip(items, values, strict=True)]


def _is_among(item: Node, others: Sequence[Node], rules: Rules, *, is_gold: bool = False) -> bool:
    return any(
        _same_statement(other, item, rules) if is_gold else _same_statement(item, other, rules) for other in others
    )


def _matched(golds: Sequence[Node], answers: Sequence[Node], rules: Rules) -> bool:
    """Each gold item has an answer item of its own."""
    wanted, given = ([value for item in items if (value := exact(item)) is not None] for items in (golds, answers))
    if len(wanted) == len(given) == len(golds) and not _any_decimal(answers):
        return sorted(wanted) == sorted(given)
    left = list(answers)
    for gold in golds:
        found = next((item for item in left if _same_statement(gold, item, rules)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _any_decimal(items: Iterable[Node]) -> bool:
    return any("." in part.label for item in items for part in item.walk() if part.head == "number")


# ---------------------------------------------------------------- one statement


def _same_statement(gold: Node, answer: Node, rules: Rules) -> bool:
    gold, answer = _reduced(gold), _reduced(answer)
    if gold == answer:
        return True
    if "relation" in (gold.head, answer.head) and (found := _with_relation(gold, answer, rules)):
        return found
    if (found := _as_convention(gold, answer, rules)) is not None:
        return found
    rule = _RULES.get(gold.head)
    if rule is not None and gold.head == answer.head:
        if rule(gold, answer, rules):
            return True
    elif {gold.head, answer.head} == {"matrix", "brackets"}:
        return _same_vector(gold, answer, rules)
    left, right = real_set(gold), real_set(answer)
    if left is not None and right is not None and gold.head + gold.label != answer.head + answer.label:
        return same_real_set(left, right)
    if gold.head in _RULES or answer.head in _RULES:
        return False
    return same_value(gold, answer, rules.policy, positive=rules.positive)


def _pairwise(golds: Sequence[Node], answers: Sequence[Node], rules: Rules) -> bool:
    return len(golds) == len(answers) and all(same(g, a, rules) for g, a in zip(golds, answers, strict=True))


def _same_brackets(gold: Node, answer: Node, rules: Rules) -> bool:
    """A set in any order; a tuple or interval by its brackets and in order."""
    if gold.label != answer.label:
        return False
    if gold.label == "{}":
        return _same_lists(_signed(gold), _signed(answer), rules, is_set=True)
    return _pairwise(gold.parts, answer.parts, rules)


def _signed(node: Node) -> list[Node]:
    return [signed for part in node.parts for signed in both_signs(part)]


def _same_matrix(gold: Node, answer: Node, rules: Rules) -> bool:
    return gold.label == answer.label and _pairwise(gold.parts, answer.parts, rules)


def _same_vector(gold: Node, answer: Node, rules: Rules) -> bool:
    """A column or row, written as a tuple or as a matrix."""
    matrix, brackets = (gold, answer) if gold.head == "matrix" else (answer, gold)
    return 1 in _shape(matrix) and brackets.label in ("()", "[]") and _pairwise(gold.parts, answer.parts, rules)


def _same_cases(gold: Node, answer: Node, rules: Rules) -> bool:
    """Branch by branch, each with its condition, in any order."""
    golds = list(zip(gold.parts[::2], gold.parts[1::2], strict=True))
    left = list(zip(answer.parts[::2], answer.parts[1::2], strict=True))
    if len(golds) != len(left) or len(golds) > 12:
        return False
    for value, condition in golds:
        found = next(
            (pair for pair in left if _same_condition(condition, pair[1], rules) and same(value, pair[0], rules)), None
        )
        if found is None:
            return False
        left.remove(found)
    return True


def _same_condition(gold: Node, answer: Node, rules: Rules) -> bool:
    if gold.head == "words" or answer.head == "words":
        return gold == answer
    return same(gold, answer, rules)


def _same_congruence(gold: Node, answer: Node, rules: Rules) -> bool:
    """The same modulus, the same left side, and residues that differ by a multiple of the modulus."""
    (left, right, modulus), (other, residue, divisor) = gold.parts, answer.parts
    if not same_value(modulus, divisor, rules.policy, positive=False):
        return False
    is_bare = "residue" in (gold.label, answer.label)
    if not is_bare and not same_value(left, other, rules.policy, positive=False):
        return False
    values = [exact(node) for node in (right, residue, modulus)]
    if None not in values and values[2]:
        return ((values[0] - values[1]) / values[2]).denominator == 1  # ty: ignore[unsupported-operator]
    return same_value(right, residue, rules.policy, positive=False)


def _same_ratio(gold: Node, answer: Node, rules: Rules) -> bool:
    """Terms in proportion; a time of day, or what has no quotient, by its terms."""
    if len(gold.parts) != len(answer.parts):
        return False
    is_literal = any(
        part.head == "dots" or (part.label.startswith("0") and len(part.label) == 2) or exact(part) == 0
        for part in (*gold.parts, *answer.parts)
    )
    if is_literal:
        return _pairwise(gold.parts, answer.parts, rules)
    first, other = gold.parts[0], answer.parts[0]
    pairs = zip(gold.parts[1:], answer.parts[1:], strict=True)
    return all(
        same_value(Node("product", (g, other)), Node("product", (a, first)), rules.policy, positive=rules.positive)
        for g, a in pairs
    )


def _same_builder(gold: Node, answer: Node, rules: Rules) -> bool:
    """What is collected and its conditions, whatever the variable is called."""
    if len(gold.parts) != len(answer.parts):
        return False
    variables = [_variable(node) for node in (gold, answer)]
    if None not in variables and variables[0] != variables[1]:
        answer = _renamed(answer, variables[1] or "", variables[0] or "")
    return same(gold.parts[0], answer.parts[0], rules) and _matched(gold.parts[1:], answer.parts[1:], rules)


def _variable(builder: Node) -> str | None:
    symbols = symbols_of(builder.parts[0]) - {
        label for label in symbols_of(builder.parts[0]) if label.startswith("bb ")
    }
    return next(iter(symbols)) if len(symbols) == 1 else None


def _renamed(node: Node, old: str, new: str) -> Node:
    label = new if node.head == "symbol" and node.label == old else node.label
    return replace(node, label=label, parts=tuple(_renamed(part, old, new) for part in node.parts))


def _same_label(gold: Node, answer: Node, _: Rules) -> bool:
    return gold.label == answer.label


_RULES: dict[str, Callable[[Node, Node, Rules], bool]] = {
    "brackets": _same_brackets,
    "matrix": _same_matrix,
    "cases": _same_cases,
    "congruence": _same_congruence,
    "ratio": _same_ratio,
    "builder": _same_builder,
    "words": _same_label,
    "dots": _same_label,
    "relation": lambda gold, answer, rules: _same_relation(gold, answer, rules),
    "based": _same_label,
    "quantity": lambda gold, answer, rules: _same_quantity(gold, answer, rules),
    "compound": lambda gold, answer, rules: _pairwise(gold.parts, answer.parts, rules),
}


# ---------------------------------------------------------------- what the policy decides


def _as_convention(gold: Node, answer: Node, rules: Rules) -> bool | None:
    """Percentages, ratios, bases and degrees against what lacks them; None where neither has one alone."""
    for head, decide in _CONVENTIONS.items():
        if (gold.head == head) != (answer.head == head):
            marked, other = (gold, answer) if gold.head == head else (answer, gold)
            if (found := decide(marked, other, rules, is_gold=marked is gold)) is not None:
                return found
    if (angle := _angle(gold)) is not None and answer.head != "product" and not _mentions(answer, "degree", "pi"):
        return same_value(angle, answer, rules.policy, positive=rules.positive)
    if (angle := _angle(answer)) is not None and gold.head != "product" and not _mentions(gold, "degree", "pi"):
        return same_value(gold, angle, rules.policy, positive=rules.positive)
    return None


def _angle(node: Node) -> Node | None:
    """The number before the sign of degrees."""
    if node.head == "product" and len(node.parts) == 2 and node.parts[1] == Node("constant", (), "degree"):
        return node.parts[0]
    return None


def _mentions(node: Node, *constants: str) -> bool:
    return any(part.head == "constant" and part.label in constants for part in node.walk())


def _percent(marked: Node, other: Node, rules: Rules, *, is_gold: bool) -> bool | None:
    pair = (marked.parts[0], other) if is_gold else (other, marked.parts[0])
    if rules.policy.percent_is_optional and other.head != "percent" and same_value(*pair, rules.policy, positive=False):
        return True
    return bool(rules.policy.percent_has_value and same_value(marked, other, rules.policy, positive=False))


def _ratio(marked: Node, other: Node, rules: Rules, **_: bool) -> bool | None:
    if other.head in ("relation", "list"):
        return None
    if len(marked.parts) != 2 or not rules.policy.ratio_is_quotient or exact(marked.parts[1]) == 0:
        return False
    return same_value(Node("quotient", marked.parts), other, rules.policy, positive=False)


def _base(marked: Node, other: Node, rules: Rules, *, is_gold: bool) -> bool | None:
    digits, _, base = marked.label.partition("_")
    if is_gold and other.head == "number" and other.label == digits:
        return True  # the base may be left out, as the problem names it
    if not rules.policy.base_has_value:
        return False
    try:
        return exact(other) == int(digits, int(base)) if len(digits) <= 300 else False
    except ValueError:
        return False


def _quantity(marked: Node, other: Node, rules: Rules, *, is_gold: bool) -> bool | None:
    """A missing unit is not held against an answer."""
    if other.head in ("relation", "list", "compound", "percent", "words"):
        return None if other.head == "relation" else False
    pair = (marked.parts[0], other) if is_gold else (other, marked.parts[0])
    return same(*pair, rules)


def _same_quantity(gold: Node, answer: Node, rules: Rules) -> bool:
    """The same value in the same unit, or in another of the same dimension."""
    units = [_unit_name(node.label) for node in (gold, answer)]
    if units[0] == units[1]:
        return same(gold.parts[0], answer.parts[0], rules)
    bases = [unit_in_base(unit) for unit in units]
    if None in bases or bases[0][1] != bases[1][1] or not rules.policy.units_are_converted:  # ty: ignore[not-subscriptable]
        return False
    scaled = [
        Node("product", (node.parts[0], number(Fraction(repr(base[0])))))
        for node, base in zip((gold, answer), bases, strict=True)
        if base
    ]
    return same_value(*scaled, rules.policy, positive=rules.positive)


def _unit_name(label: str) -> str:
    """Without the number of a word: apples and apple, square units and square unit."""
    name = label.casefold() if len(label) > 3 else label
    return name.removesuffix("s") if len(name) > 3 else name


_CONVENTIONS: dict[str, Callable[..., bool | None]] = {
    "percent": _percent,
    "ratio": _ratio,
    "based": _base,
    "quantity": _quantity,
}


# ---------------------------------------------------------------- relations


def is_name(node: Node) -> bool:
    """A symbol, a value of a function, a ratio or tuple of such: what may stand on the left of a value."""
    if node.head in LETTERS:
        return True
    if node.head == "apply":
        return not node.label.startswith("\\") or len(node.label) > 4
    if node.head in ("quotient", "product", "ratio", "brackets"):
        return all(map(is_name, node.parts))
    return (
        node.head == "call"
        and node.label not in ("exp", "ln", "log")
        and any(part.head == "symbol" for part in node.walk())
    )


def value_of(relation: Node) -> Node | None:
    """What a relation says of a name, or of what is computed: the last side before an approximation.

    None where it says something else, or that numbers are equal which are not.
    """
    signs = relation.label.split()
    if signs == ["\\in"] and is_name(relation.parts[0]):
        return relation.parts[1]
    if not set(signs) <= _EQUAL or _is_false(relation):
        return None
    first, *rest = relation.parts
    if not is_name(first):
        if len(rest) == 1 and rest[0].head == "symbol" and not symbols_of(rest[0]) & symbols_of(first):
            return first
        if symbols_of(relation) or any(part.head == "apply" for part in relation.walk()):
            return None
    before = signs.index("\\approx") if "\\approx" in signs else len(signs)
    if before:
        return rest[before - 1]
    return rest[-1] if is_name(first) else first


def _is_false(relation: Node) -> bool:
    """Whether `=` stands between integers that differ, or between numbers that no rounding makes equal: `5 = 204`."""
    if set(relation.label.split()) != {"="}:
        return False
    numbers = [value for side in relation.parts if (value := exact(side)) is not None]
    if len(numbers) < 2:
        return False
    slack = _ROUNDED * max(map(abs, numbers)) if any(value.denominator > 1 for value in numbers) else 0
    return max(numbers) - min(numbers) > slack


def _name(relation: Node) -> Node:
    """The side of a relation that is no value."""
    return relation.parts[-1] if value_of(relation) is relation.parts[0] else relation.parts[0]


def _with_relation(gold: Node, answer: Node, rules: Rules) -> bool:
    """A value against a value with its name; inequalities against intervals."""
    if gold.head == answer.head:
        return _same_relation(gold, answer, rules)
    relation, bare = (gold, answer) if gold.head == "relation" else (answer, gold)
    if rules.policy.left_side_is_optional:
        for value in _values(relation) if relation is gold else filter(None, [value_of(relation)]):
            pair = (value, bare) if relation is gold else (bare, value)
            if same(*pair, rules):
                return True
    if (interval := _interval(relation)) is not None and bare.head in ("brackets", "apply"):
        pair = (interval, bare) if relation is gold else (bare, interval)
        return _same_statement(*pair, rules)
    return False


def _values(relation: Node) -> list[Node]:
    """The sides of a gold that may be given for it: its value, and its decimal where it has both."""
    value = value_of(relation)
    if value is None:
        return []
    return [value, *(side for side in relation.parts[1:] if side is not value and exact(side) is not None)]


def _interval(relation: Node) -> Node | None:
    r"""`1 < x \le 3` as `(1, 3]`; None for another relation."""
    signs = relation.label.split()
    if not set(signs) <= {"<", "\\le", ">", "\\ge"}:
        return None
    parts = relation.parts
    if {_ORDER[sign] for sign in signs} == {-1}:
        parts, signs = parts[::-1], [_FLIPPED[sign] for sign in signs[::-1]]
    infinity = Node("constant", (), "infinity")
    if len(parts) == 3 and all(_ORDER[sign] == 1 for sign in signs) and is_name(parts[1]):
        return Node(
            "brackets",
            (parts[0], parts[2]),
            ("[" if signs[0] == "\\le" else "(") + ("]" if signs[1] == "\\le" else ")"),
        )
    if len(parts) == 2 and is_name(parts[0]):
        return Node("brackets", (negative(infinity), parts[1]), "(" + ("]" if signs[0] == "\\le" else ")"))
    if len(parts) == 2 and is_name(parts[1]):
        return Node("brackets", (parts[0], infinity), ("[" if signs[0] == "\\le" else "(") + ")")
    return None


def _same_relation(gold: Node, answer: Node, rules: Rules) -> bool:
    """Side by side, from the other end, as values of one name, or as multiples of each other."""
    signs, others = _signs(gold), _signs(answer)
    if signs == others and _pairwise(gold.parts, answer.parts, rules):
        return True
    flipped = [_FLIPPED.get(sign, sign) for sign in reversed(others)]
    if signs == flipped and _pairwise(gold.parts, answer.parts[::-1], rules):
        return True
    values = value_of(gold), value_of(answer)
    if (
        values[0] is not None
        and values[1] is not None
        and _same_name(_name(gold), _name(answer), rules)
        and same(values[0], values[1], rules)
    ):
        return True
    if len(signs) == len(others) == 1 and _same_multiples(gold, answer, rules):
        return True
    intervals = _interval(gold), _interval(answer)
    if intervals[0] is not None and intervals[1] is not None and len(gold.parts) == 3:
        return False
    return _as_membership(gold, answer, rules)


def _as_membership(gold: Node, answer: Node, rules: Rules) -> bool:
    r"""`-2 \le x \le 7` and `x \in [-2, 7]`."""
    for relation, member in ((gold, answer), (answer, gold)):
        if member.label == "\\in" and (interval := _interval(relation)) is not None:
            pair = (interval, member.parts[1]) if relation is gold else (member.parts[1], interval)
            return _same_statement(*pair, rules)
    return False


def _signs(relation: Node) -> list[str]:
    return ["=" if sign == "\\approx" else sign for sign in relation.label.split()]


def _same_name(gold: Node, answer: Node, rules: Rules) -> bool:
    """The same name; of a function the same letter, and y for f(x)."""
    if gold.head == answer.head == "apply" and gold.label == answer.label and len(gold.parts) == len(answer.parts):
        return _pairwise(gold.parts, answer.parts, rules) or all(
            part.head == "symbol" for part in (*gold.parts, *answer.parts)
        )
    if {gold.head, answer.head} == {"apply", "symbol"}:
        applied, symbol = (gold, answer) if gold.head == "apply" else (answer, gold)
        return symbol.label == "y" or symbol.label == applied.label
    return gold.head == answer.head and same_value(gold, answer, rules.policy, positive=False)


def _same_multiples(gold: Node, answer: Node, rules: Rules) -> bool:
    """The differences of the sides are in a constant ratio, and an order keeps or turns its direction with its sign."""
    (sign,), (other,) = _signs(gold), _signs(answer)
    orders = _ORDER.get(sign), _ORDER.get(other)
    if orders == (None, None):
        if not (sign == other and sign in ("=", "\\ne")):
            return False
    elif None in orders or (sign in ("\\le", "\\ge")) != (other in ("\\le", "\\ge")):
        return False
    ratio = constant_ratio(gold.parts, answer.parts, positive=rules.positive)
    if ratio is None:
        return False
    return orders == (None, None) or (isinstance(ratio, Fraction | float) and ratio * orders[0] * orders[1] > 0)  # ty: ignore[unsupported-operator]
