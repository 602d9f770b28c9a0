"""What the extra `attest` adds to a bundle: a signature (OpenSSF Model Signing), `croissant.json` and `ro-crate-metadata.json`.

The two descriptions are written from the manifests and are views of them, never evidence. Nothing here uses the network.
"""

import datetime
import importlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flows.bundle import check
from stages.records.artifact import Manifest, write_json

CROISSANT, CRATE = "croissant.json", "ro-crate-metadata.json"
_NEEDED = ("model_signing", "OpenSSL", "mlcroissant", "rocrate")
_INSTALL = "pip install -e '.[attest]' -c constraints.txt"
ABSENT = f"{CROISSANT} and {CRATE} are left out: the extra `attest` is not installed ({_INSTALL})"
_PROCESS_RUN = "https://w3id.org/ro/wfrun/process/0.5"


def is_there() -> bool:
    """Whether the extra is installed."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDED)


# ---------------------------------------------------------------- signature


def require_signer(key: Path) -> None:
    """Raises ValueError where nothing can be signed with this key, before anything is built."""
    if not is_there():
        raise ValueError(f"--sign needs the extra `attest`: {_INSTALL}")
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    make = "`openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem` makes one"
    try:
        found = load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"--sign {key}: not a private key in PEM without a password ({error}); {make}") from error
    is_elliptic = isinstance(found, EllipticCurvePrivateKey)
    if not is_elliptic:
        raise ValueError(f"--sign {key}: not a key of an elliptic curve; {make}")


def sign(folder: Path, key: Path) -> None:
    """Write the signature over every other file of the folder."""
    hashing, signing = (importlib.import_module(f"model_signing.{name}") for name in ("hashing", "signing"))
    paths = [check.SIGNATURE]
    hashed = hashing.Config().set_ignored_paths(paths=paths, ignore_git_paths=False)
    config = signing.Config().set_hashing_config(hashed).use_elliptic_key_signer(private_key=key)
    config.sign(folder, folder / check.SIGNATURE)


# ---------------------------------------------------------------- descriptions


def write_views(bundle: check.Bundle, *, title: str, manifests: Mapping[str, Manifest]) -> None:
    """Describe the curated data, and the folder as a run of processes."""
    write_json(bundle.folder / CROISSANT, _croissant(bundle, title=title, curation=manifests["curation"]))
    write_json(bundle.folder / CRATE, _crate(bundle, title=title))


def _licences(curation: Manifest) -> list[str]:
    return sorted({row["licence"] for row in curation.tables().get("sources", []) if row["licence"]})


def _croissant(bundle: check.Bundle, *, title: str, curation: Manifest) -> Any:  # noqa: ANN401 - JSON-LD
    """A file object and a record set for each table; a program that loads one finds its bytes by path and compares the digest."""
    mlc = importlib.import_module("mlcroissant")
    ctx = mlc.Context(conforms_to="http://mlcommons.org/croissant/1.0")
    tables = [name for name in curation.document["files"] if name.endswith(".parquet")]
    metadata = mlc.Metadata(
        ctx=ctx,
        name=f"{title}: curated data",
        description=f"Problems that a chain of the recipe {curation.document['recipe']} was trained and evaluated on; see card.md.",
        license=_licences(curation),
        version="1.0.0",
        url=f"urn:sha256:{curation.content}",
        cite_as=f"fingerprint {curation.fingerprint}",
        date_published=_made_at(curation.document),
        distribution=[_file_object(ctx, bundle, curation, name) for name in tables],
        record_sets=[_record_set(ctx, curation, name) for name in tables],
    )
    return json.loads(json.dumps(metadata.to_json(), default=str))


def _made_at(manifest: check.Json) -> datetime.datetime:
    return datetime.datetime.fromisoformat(manifest["made_at"])


def _file_object(ctx: Any, bundle: check.Bundle, curation: Manifest, name: str) -> Any:  # noqa: ANN401 - of mlcroissant, which may be absent
    mlc = importlib.import_module("mlcroissant")
    entry = curation.document["files"][name]
    return mlc.FileObject(
        ctx=ctx,
        id=name,
        name=name,
        content_url=bundle.result_file("curation", name),
        content_size=f"{entry['bytes']} B",
        encoding_formats=["application/x-parquet"],
        sha256=entry["sha256"],
    )


def _record_set(ctx: Any, curation: Manifest, name: str) -> Any:  # noqa: ANN401 - of mlcroissant, which may be absent
    mlc = importlib.import_module("mlcroissant")
    import pyarrow as pa
    import pyarrow.parquet as pq

    stem = name.removesuffix(".parquet")
    fields = [
        mlc.Field(
            ctx=ctx,
            id=f"{stem}/{column.name}",
            name=column.name,
            description=f"column {column.name}",
            data_types=[mlc.DataType.FLOAT if pa.types.is_floating(column.type) else mlc.DataType.TEXT],
            source=mlc.Source(ctx=ctx, file_object=name, extract=mlc.Extract(ctx=ctx, column=column.name)),
        )
        for column in pq.read_schema(curation.folder / name)
    ]
    return mlc.RecordSet(ctx=ctx, id=stem, name=stem, description=f"rows of {name}", fields=fields)


def _crate(bundle: check.Bundle, *, title: str) -> Any:  # noqa: ANN401 - JSON-LD
    """An action for each stage, from the results that it read to the one that it made; a slim bundle has the same text."""
    entity_of = importlib.import_module("rocrate.model.contextentity").ContextEntity
    crate = importlib.import_module("rocrate.rocrate").ROCrate()
    last = bundle.by_key["report"]
    crate.name, crate.description = (
        title,
        f"A chain of the recipe {last['recipe']}: results, code, records, and the check of all.",
    )
    crate.datePublished = _made_at(last)
    crate.license = "https://www.apache.org/licenses/LICENSE-2.0"
    profile = {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    crate.root_dataset["conformsTo"] = crate.add(entity_of(crate, _PROCESS_RUN, properties=profile))
    for entity, properties in _entities(bundle):
        crate.add(entity_of(crate, entity, properties=properties))
    places = [{"@id": f"{place}/"} for place in bundle.manifests]
    crate.root_dataset["hasPart"] = [*places, {"@id": f"{check.SOURCE}/"}, {"@id": check.REPORT}]
    crate.root_dataset["mentions"] = [{"@id": f"#{key}"} for key in bundle.by_key]
    return crate.metadata.generate()


def _entities(bundle: check.Bundle) -> Iterator[tuple[str, dict[str, Any]]]:
    yield f"{check.SOURCE}/", {"@type": ["Dataset", "SoftwareApplication"], "name": "the source"}
    yield check.REPORT, {"@type": "File", "name": "the report", "encodingFormat": "text/html"}
    for place, manifest in bundle.manifests.items():
        key = bundle.places[place]
        identity = f"sha256 of its files {manifest['content']}, seal {manifest['seal']}"
        yield f"{place}/", {"@type": "Dataset", "name": f"result of {key}", "identifier": identity}
        inputs = [entry for entry in manifest["inputs"].values() if "stage" in entry]
        read = [{"@id": f"{check.RESULTS}/{entry['stage']}/{entry['fingerprint']}/"} for entry in inputs]
        yield (
            f"#{key}",
            {
                "@type": "CreateAction",
                "name": key,
                "instrument": {"@id": f"{check.SOURCE}/"},
                "object": read,
                "result": {"@id": f"{place}/"},
                "endTime": manifest["made_at"],
            },
        )
