import pytest

from stages.curation.names import unresolved_names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(root: Optional[TreeNode]):\n    return root", ["Optional", "TreeNode"]),
        ("import numpy.linalg as la, json\nfrom sortedcontainers import SortedList", ["numpy", "sortedcontainers"]),
        ("def f(a, *b, c=1, **d):\n    global e\n    e = [x for x in b]\n    return a, c, d, e, len(b)", []),
        ("try:\n    pass\nexcept ValueError as error:\n    print(error)", []),
        ("match 1, 2:\n    case [one, *rest] as all_of_it:\n        print(one, rest, all_of_it)", []),
        ("this is no Python", []),
    ],
)
def test_a_name_counts_that_no_scope_binds_and_a_module_that_python_does_not_bring(source, names):
    assert unresolved_names(source) == names


def test_what_runs_before_the_program_may_bind_its_names():
    assert (
        unresolved_names(
            "def f(root: TreeNode):\n    return deque([root])", "from collections import deque\nclass TreeNode: pass"
        )
        == []
    )
