"""A finished chain as one folder to publish, and the check that a stranger runs on it.

`building` makes the folder of what the home folder holds; `check` is copied into it and needs the standard library alone. What follows from
the manifests (statements, tables, digests) is written and checked by the same functions of `check`.
"""
