"""Seeded generators of problems of graded difficulty, and the documented teacher that writes reasoning for them.

In: shares of kinds and levels, and a seed. Out: `Problem` records whose answer is known by construction, and proposals of
a teacher that sometimes slips, so that rejection sampling has something to reject. The teacher is a program,
not a model: here we depart from the paper. All text is made of words between single spaces, line breaks and `PHRASES`,
from a closed vocabulary of about 270 words; whole numbers lie in 0..199 and a negative one is the word `-` before one.

| kind | domain | levels 1, 2, 3, 4 |
| --- | --- | --- |
| chain | math | 2-3, 4-5, 6-7, 8 operations modulo 7, 9 or 11, from left to right |
| lin | math | a x + b = d; a ( x + b ) = d; a x + b = c x + d; a ( x + b ) = c x + d |
| list | code | 2-3, 4-5, 6-7, 8 operations on four digits |
| fit | code | a * x + b from three tests; b may be negative; every x >= 2; larger b |
| science | science | 1, 2, 3, 3 formulas; one operand may be a difference from level 2, two or three are at level 4 |
"""

from data.sources.procedural.dirt import DIRT, Material, num_spare, plant
from data.sources.procedural.generation import KINDS, LICENCE, describe, generate_problems
from data.sources.procedural.kind import Kind, Slips, Statement
from data.sources.procedural.notation import PHRASES
from data.sources.procedural.teacher import STYLES, propose_trace

__all__ = [
    "DIRT",
    "KINDS",
    "LICENCE",
    "PHRASES",
    "STYLES",
    "Kind",
    "Material",
    "Slips",
    "Statement",
    "describe",
    "generate_problems",
    "num_spare",
    "plant",
    "propose_trace",
]
