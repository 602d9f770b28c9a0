"""What the page was made from: each result with its inputs and digests, as trees and tables, and one root digest over all seals.

In: the manifests that the page reads. Nothing else is looked at, so that the same manifests give the same lines.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from stages.records.artifact import Manifest, root_digest
from stages.stage import Row

_SHORT, _SHOWN = 8, 16  # characters of a name, of a digest
Manifests = Mapping[str, Manifest]  # by `sft`, `rl/<arm>`, ..., in the order of the stages


def root_of_page(manifests: Manifests) -> str:
    """The root digest (`records.artifact.root_digest`) over the seals of the results that the page reads; not over the page's own."""
    return root_digest({_place(one): one.document.get("seal", "") for one in manifests.values()})


def _place(manifest: Manifest) -> str:
    return f"{manifest.stage}/{manifest.fingerprint}"


def last_results(manifests: Manifests) -> list[Manifest]:
    """Those that no other one was made from: `ring verify` of one checks it and all that it was made from."""
    used = {entry.get("fingerprint") for one in manifests.values() for entry in _inputs(one).values()}
    return [one for one in manifests.values() if one.fingerprint not in used]


def _inputs(manifest: Manifest) -> dict[str, dict[str, str]]:
    return manifest.document.get("inputs", {})


# ---------------------------------------------------------------- the trees


def lineage_trees(manifests: Manifests) -> list[dict[str, Any]]:
    """Of each of the last results its tree: `title`, `name` (of a result on the page), `again`, and below it `inputs`, nested."""
    by_name = {one.fingerprint: one for one in manifests.values()}
    told: set[str] = set()
    return [_tree(_title(one), one.fingerprint, by_name, told) for one in last_results(manifests)]


def _tree(title: str, fingerprint: str, by_name: Mapping[str, Manifest], told: set[str]) -> dict[str, Any]:
    """What stands below one that comes again is told where it came first."""
    manifest, again = by_name.get(fingerprint), fingerprint in told
    told.add(fingerprint)
    inputs = [*_branches(manifest, by_name, told)] if manifest is not None and not again else []
    name = fingerprint[:_SHORT] if manifest is not None else ""
    return {"title": title, "name": name, "inputs": inputs, "again": again and _has_inputs(manifest)}


def _has_inputs(manifest: Manifest | None) -> bool:
    return manifest is not None and bool(_inputs(manifest))


def _branches(manifest: Manifest, by_name: Mapping[str, Manifest], told: set[str]) -> Iterator[dict[str, Any]]:
    for name, entry in _inputs(manifest).items():
        if "stage" in entry:
            yield _tree(name.replace("/", " "), entry["fingerprint"], by_name, told)
        else:
            title = f"{name} (outside the store, sha256 {entry['content'][:_SHOWN]})"
            yield {"title": title, "name": "", "inputs": [], "again": False}


def _title(manifest: Manifest) -> str:
    return f"{manifest.stage} {manifest.arm or ''}".rstrip()


# ---------------------------------------------------------------- the tables


def input_rows(manifests: Manifests) -> list[Row]:
    """A row a result and input: what was read, by fingerprint, by the hash of its bytes and by the seal of the manifest that was read."""
    return [
        {
            "result": key,
            "made from": name,
            "fingerprint": entry.get("fingerprint", ""),
            "content": entry["content"][:_SHOWN],
            "seal": entry.get("seal", "")[:_SHOWN],
        }
        for key, manifest in manifests.items()
        for name, entry in _inputs(manifest).items()
    ]


def digest_rows(manifests: Manifests) -> list[Row]:
    """A row a result, each digest whole: the root digest is made of the second and the third column."""
    return [
        {
            "result": key,
            "stage/fingerprint": _place(one),
            "seal": one.document.get("seal", ""),
            "content": one.content,
            "code": one.document["payload"].get("code", ""),
        }
        for key, one in manifests.items()
    ]
