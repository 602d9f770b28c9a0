"""Choices on which honest graders differ, each with its default and what it decides."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """How mathematics and science are judged where there is more than one sound way."""

    percent_is_optional: bool = True  # 50 for a gold of 50 %, and the other way round
    percent_has_value: bool = False  # 50 % for 0.5
    order_is_free: bool = True  # 2, 1 for a gold of 1, 2; a tuple in brackets keeps its order
    braces_are_optional: bool = True  # 1, 2 for a gold of {1, 2}
    left_side_is_optional: bool = True  # 2x + 3 for a gold of y = 2x + 3, and the other way round
    units_are_converted: bool = True  # 1 m for a gold of 100 cm
    ratio_is_quotient: bool = False  # 14:3 for a gold of 14/3
    base_has_value: bool = False  # 5 for a gold of 101_2
    rounded_places: int = 6  # a decimal of so many places and significant digits may stand for what it rounds; 0: never
    boxes_are_joined: bool = True  # \\boxed{1} and \\boxed{2} for a gold of {1, 2}; else the last box counts
    partial_credit: bool = False  # science: half a point for some of several right letters, and no wrong one


DEFAULT_POLICY = Policy()
