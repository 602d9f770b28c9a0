r"""Formulas as answers: normalised, parsed whole, and compared construct by construct.

`normal` writes a text in one spelling, `lexer` and `grammar` (with `atoms` and `names`) read it into the tree of `nodes`, `values` computes
with it, `sameness` compares scalars, `realsets` sets of numbers, `comparison` everything else.
"""
