"""The end of a bundle: the root digest where it is printed, and the bag's own files (BagIt, RFC 8493)."""

import json
from collections.abc import Iterable
from pathlib import Path

from flows.bundle import check


def close_bundle(folder: Path, *, is_slim: bool) -> check.Bundle:
    """Print the root digest where it belongs, and write the bag's own files. The bundle as it stands then."""
    before = check.Bundle(folder)
    _require_plain_names(before)
    seals = {place: manifest["seal"] for place, manifest in before.manifests.items()}
    root = check.root_of(seals, before.digests)
    for name in check.PRINTS_ROOT:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content.replace(check.NO_ROOT.encode(), root.encode()))
    payload = {name: size for name, size in before.sizes.items() if name.startswith("data/")}
    chain = json.loads((folder / check.CHAIN).read_text(encoding="utf-8"))
    info = check.bag_info(chain, root=root, is_slim=is_slim, sizes=[*payload.values()])
    (folder / check.BAG).write_text(check.BAG_TEXT, encoding="utf-8")
    (folder / check.BAG_INFO).write_text(info, encoding="utf-8")
    _write_list(folder, payload, check.BAG_FILES)
    tags = [path.name for path in folder.iterdir() if path.is_file()]
    _write_list(folder, tags, check.BAG_TAGS)
    return check.Bundle(folder)


def _write_list(folder: Path, names: Iterable[str], listing: str) -> None:
    lines = [f"{check.file_sha256(folder / name)}  {name}\n" for name in sorted(names)]
    (folder / listing).write_text("".join(lines), encoding="utf-8")


def _require_plain_names(bundle: check.Bundle) -> None:
    for name in bundle.digests:
        if any(sign in name for sign in "\n\r\\%"):
            raise ValueError(f"the name {name!r} cannot stand in a list of sha256sum; rename the file in its source")
