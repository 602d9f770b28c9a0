"""The generators of reasoning-gym 0.1.25: which are used, in which module each stands, and which are not and why.

Together they are all that the package registers (tests/data/domains/test_gym.py), so that none of a later version comes in unseen.
Some scorers evaluate what they read, or can be talked into full marks; `FORMS` says what those get to see. Anything else is wrong
without being shown to them, and no answer is ever run as a program.
"""

import re

VERSION = "0.1.25"

_FAMILIES = {  # name=module where they differ
    "algebra": """
        complex_arithmetic intermediate_integration polynomial_equations polynomial_multiplication simple_equations
        simple_integration
    """,
    "algorithmic": """
        ab base_conversion binary_alternation binary_matrix caesar_cipher count_primes cryptarithm game_of_life
        group_anagrams isomorphic_strings jugs letter_counting letter_jumble manipulate_matrix number_filtering
        number_sorting palindrome_generation palindrome_partitioning pool_matrix ransom_note rotate_matrix
        rotten_oranges sentence_reordering spell_backward spiral_matrix string_insertion string_manipulation
        string_splitting string_synthesis word_ladder word_sequence_reversal word_sorting
    """,
    "arc": "arc_1d rearc",
    "arithmetic": """
        basic_arithmetic bitwise_arithmetic calendar_arithmetic chain_sum count_bits decimal_arithmetic
        decimal_chain_sum dice fraction_simplification gcd gsm_symbolic=gsm_symbolic.gsm_symbolic lcm leg_counting
        number_format power_function prime_factorization products time_intervals
    """,
    "code": "bf",
    "cognition": """
        color_cube_rotation modulo_grid needle_haystack number_sequence=number_sequences rectangle_count
    """,
    "games": """
        countdown emoji_mystery futoshiki kakurasu knight_swap mahjong_puzzle=mahjong maze mini_sudoku n_queens
        sokoban sudoku survo tower_of_hanoi tsumego
    """,
    "geometry": "advanced_geometry simple_geometry",
    "graphs": "course_schedule family_relationships largest_island path_star quantum_lock shortest_path",
    "induction": "list_functions=list_functions.list_functions",
    "logic": "aiw circuit_logic self_reference syllogism=syllogisms zebra_puzzles",
    "probability": "coin_flip",
}


def _modules() -> dict[str, str]:
    """Generator -> module within the package."""
    words = [(family, *word.partition("=")) for family, names in _FAMILIES.items() for word in names.split()]
    return {name: f"{family}.{module or name}" for family, name, _, module in words}


GENERATORS: dict[str, str] = _modules()

EXCLUDED: dict[str, str] = {
    "acre": "its code is under GPL-3.0",
    "knights_knaves": "adapted from a repository of which no licence is stated",
    "game_of_life_halting": "its scorer gives full marks to any answer",
    "puzzle24": "its scorer takes any four numbers in place of the given ones",
    "boxnet": "no answer to give back: nothing shows that a problem can be solved",
    "graph_color": "no answer to give back",
    "propositional_logic": "no answer to give back",
    "rubiks_cube": "no answer to give back",
    "rush_hour": "no answer to give back",
    "arc_agi": "a fixed set of 800 tasks, so that held-out ones come again; 4 s to open for each verdict",
    "codeio": "a fixed set of programs, so that held-out ones come again; runs them; 2 s to open for each verdict",
    "figlet_font": "2 s to open for each verdict",
    "composite": "a mixture of others, which a recipe states itself",
}

_LISTS = re.compile(r"[\[\]\s,'\"A-Z0-9_]*", re.ASCII)  # no brackets that call, no dots, no small letters of keywords
_ARITHMETIC = re.compile(r"(?:[0-9+\-()\s]|\*(?!\*)|/(?!/))*", re.ASCII)
_NUMBERS = re.compile(r"[\[\]\s,'\"0-9.eE+-]*", re.ASCII)  # JSON has NaN, which is close to every number
_COMPLEX = re.compile(r"[0-9.+\-()\sijIJ]*", re.ASCII)  # nor may `nan` be read
_FUNCTIONS = "sqrt exp log ln sin cos tan cot sec csc asin acos atan sinh cosh tanh asinh acosh atanh Abs pi"
_ALGEBRA = re.compile(  # numbers, single letters and these functions; SymPy evaluates it
    rf"(?:\d+(?:\.\d+)?(?![.\w])|(?<![\w.])(?:{'|'.join(_FUNCTIONS.split())}|[A-Za-z])(?!\w)|[-+*/()\s])*", re.ASCII
)
FORMS: dict[str, re.Pattern[str]] = {
    "binary_matrix": _LISTS,
    "complex_arithmetic": _COMPLEX,
    "countdown": _ARITHMETIC,
    "intermediate_integration": _ALGEBRA,
    "n_queens": _LISTS,
    "number_sorting": _NUMBERS,
    "polynomial_multiplication": _ALGEBRA,
    "simple_integration": _ALGEBRA,
    "spiral_matrix": _LISTS,
    "string_insertion": _LISTS,
}


def fault_of(generator: str) -> str:
    """Why a generator cannot be used; empty for one that can."""
    if generator in GENERATORS:
        return ""
    why = EXCLUDED.get(generator)
    return f"generator {generator!r} is left out: {why}" if why else f"no generator {generator!r} in {VERSION}"
