"""The files of problems that a curation reads from outside the store: those of its sources, and those of `--data-dir`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.sources.columns import Reading, reading_of
from data.sources.formats import problem_files
from stages.config import CurationConfig, FileSource
from stages.records.artifact import file_digests

DATA_DIR = "data-dir"
PROBLEMS = "problems"  # the file or folder of a set of one's own that a model is evaluated on
TRAINED_ON = "trained-on"  # the curation whose rows a model was trained on
STANDINGS = "codeforces-standings"  # folder below --data-dir: files of the site's API, and humans.json


@dataclass(frozen=True, slots=True)
class Place:
    """A file or a folder of files, and which of its columns are which."""

    key: str  # in manifests: `data-dir`, `problems`, `source/<name>`
    path: Path
    columns: Mapping[str, str]  # what was asked for

    @property
    def what(self) -> str:
        """What a message calls it."""
        return f"--{self.key}" if self.key in (DATA_DIR, PROBLEMS) else f"source {self.key.removeprefix('source/')!r}"

    def files(self) -> list[Path]:
        """Its files in order. Raises ValueError where there is none."""
        return problem_files(self.path, what=self.what)

    def digests(self) -> dict[str, str]:
        """Name -> sha256 of each file."""
        return file_digests(self.files(), below=self.path if self.path.is_dir() else self.path.parent)

    def readings(self) -> dict[str, Reading]:
        """Name -> how it is read, from its first rows. Raises ValueError for the first file that cannot be."""
        return {file.name: reading_of(file, self.columns) for file in self.files()}


def place_of(source: FileSource, config: CurationConfig, data_dir: Path | None) -> Place:
    """Where a source reads. Raises ValueError where that is the folder of --data-dir and none was given."""
    if source.folder != DATA_DIR:
        return Place(f"source/{source.name}", Path(source.folder), source.columns)
    if data_dir is None:
        raise ValueError(
            f"source {source.name!r} reads the folder of --data-dir, and none was given: add --data-dir DIR"
        )
    return Place(DATA_DIR, data_dir, {**source.columns, **config.columns})


def places(config: CurationConfig, data_dir: Path | None) -> list[Place]:
    """All of them, each once; --data-dir is one even where no source names it. Raises ValueError for columns without a place."""
    found = [place_of(source, config, data_dir) for source in config.sources if isinstance(source, FileSource)]
    if data_dir is not None and not any(place.key == DATA_DIR for place in found):
        found.append(Place(DATA_DIR, data_dir, config.columns))
    if data_dir is None and config.columns:
        raise ValueError("--columns (curation.columns) says how the files of --data-dir are read, and none was given")
    return found
