"""Names that tests and answers of functions may use without importing them, as LeetCode and LiveCodeBench have them.

They stand behind the names of an answer, where built-in functions do, and those are stronger: an answer that defines no `gcd` has none
that could be tested. Programs that read stdin get none of this.
"""

# ruff: noqa: F403, F401  what is imported is what the module holds
import bisect
import collections
import copy
import datetime
import functools
import heapq
import itertools
import json
import math
import operator
import random
import re
import string
import sys
import time
import typing
from bisect import *
from collections import *
from copy import *
from functools import *
from heapq import *
from itertools import *
from math import *
from operator import *
from random import *
from re import *
from string import *
from typing import *


class ListNode:
    """A node of a linked list."""

    def __init__(self, val=0, next=None) -> None:  # noqa: ANN001  as LeetCode gives it
        self.val = val
        self.next = next


class TreeNode:
    """A node of a binary tree."""

    def __init__(self, val=0, left=None, right=None) -> None:  # noqa: ANN001  as LeetCode gives it
        self.val = val
        self.left = left
        self.right = right


def list_node(values: list) -> ListNode | None:
    """The list with these values."""
    head = None
    for value in reversed(values):
        head = ListNode(value, head)
    return head


def is_same_list(one: ListNode | None, other: ListNode | None) -> bool:
    """Whether two lists hold equal values."""
    while one is not None and other is not None:
        if one.val != other.val:
            return False
        one, other = one.next, other.next
    return one is None and other is None


def tree_node(values: list) -> TreeNode | None:
    """The tree whose values stand level by level, None for a child that is missing."""
    if not values or values[0] is None:
        return None
    root = TreeNode(values[0])
    parents, rest = collections.deque([root]), iter(values[1:])
    while parents:
        parent = parents.popleft()
        for side in ("left", "right"):
            value = next(rest, None)
            if value is not None:
                setattr(parent, side, TreeNode(value))
                parents.append(getattr(parent, side))
    return root


def is_same_tree(one: TreeNode | None, other: TreeNode | None) -> bool:
    """Whether two trees have equal values in the same places."""
    if one is None or other is None:
        return one is None and other is None
    return one.val == other.val and is_same_tree(one.left, other.left) and is_same_tree(one.right, other.right)


NAMES = {name: value for name, value in globals().items() if not name.startswith("_")}
