"""Gather the sealed results of a chain and render them with the template beside this file.

The page begins with what was found, in sentences, and the chain as a picture; then the stages in their order; then the rows behind the
scores, the lineage with the root digest over the seals of what it was made from, and an empty place for the ledger of runs (`tries`).
It needs no network and no script.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from stages.config import STAGES, ReportConfig, Runtime
from stages.records.artifact import Manifest, read_manifest
from stages.records.machine import machine_line
from stages.report.charts import COLOURS
from stages.report.findings import METRICS, Findings, chain_findings
from stages.report.lineage import digest_rows, input_rows, last_results, lineage_trees, root_of_page
from stages.report.picture import chain_picture
from stages.report.responses import cut
from stages.report.sections import difference_chart, page_sections
from stages.report.verdicts import group_anchor, right_answers, row_anchors, verdict_groups
from stages.stage import Row, StageLog, StageRecord

MAX_BYTES = 2_000_000
TRIES_OPEN, TRIES_CLOSE = '<section id="tries">', "</section>"  # around what the published page says of the ledger
TRIES_ELSEWHERE = (
    "<p>This page follows from the results alone, so that the same results give the same page; how often they were tried does not follow "
    "from them. <code>ring runs</code> lists every run of a home folder, and the page that a run publishes shows them here.</p>"
)
_DARK = ("#6cb4ee", "#ef8a75", "#5cc28a", "#b99be0", "#d9a93a", "#9aa8bd")  # of the series, on a dark ground


def run(config: ReportConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog) -> StageRecord:
    """Write out/report.html. Raises ValueError when the page would pass 2 MB."""
    manifests = {key: read_manifest(folder) for key, folder in inputs.items()}
    page = render(config.title, manifests)
    size = len(page.encode())
    if size > MAX_BYTES:
        raise ValueError(
            f"the report has {size:,} bytes, the limit is {MAX_BYTES:,}: fewer RL steps are plotted with a larger SMOOTHING"
        )
    (out / "report.html").write_text(page, encoding="utf-8")
    log.progress(1, 1, unit="pages")
    return StageRecord(metrics={"report/bytes": size})


def render(title: str, manifests: Mapping[str, Manifest]) -> str:
    """The page of the stages that there are, as text; the same manifests give the same bytes."""
    ordered = dict(sorted(manifests.items(), key=lambda item: (STAGES.index(item[1].stage), item[0])))
    evaluation, curation = ordered.get("evaluation"), ordered.get("curation")
    found = chain_findings(ordered)
    order = _models(found)
    verdicts = verdict_groups(evaluation, curation) if evaluation and curation else []
    return _template().render(
        title=f"{title}: {_recipe(ordered)}" if _recipe(ordered) else title,
        made=_made(ordered),
        findings=found,
        metrics=METRICS,
        differences=difference_chart(evaluation, order=order) if evaluation else "",
        picture=chain_picture(ordered),
        stages=[_stage_row(key, manifest) for key, manifest in ordered.items()],
        notes=_notes(ordered),
        sections=page_sections(ordered, order=order),
        verdicts=verdicts,
        anchors=row_anchors(verdicts, evaluation) if evaluation else {},
        group_anchor=group_anchor,
        samples=_samples(evaluation, curation) if evaluation else [],
        trees=lineage_trees(ordered),
        inputs=input_rows(ordered),
        digests=digest_rows(ordered),
        root=root_of_page(ordered),
        last=last_results(ordered),
        tries=TRIES_OPEN + TRIES_ELSEWHERE + TRIES_CLOSE,
        colours=list(zip(COLOURS, _DARK, strict=True)),
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html")


def _models(found: Findings) -> list[str]:
    """Models in the order of the scores: each has one colour on the page."""
    return [row["model"] for row in found.scores]


def _recipe(manifests: Mapping[str, Manifest]) -> str:
    """The recipe that the newest result was made by; results of an earlier one may stand behind it."""
    newest = max(manifests.values(), key=lambda manifest: manifest.document.get("made_at", ""), default=None)
    return newest.document.get("recipe", "") if newest else ""


def _made(manifests: Mapping[str, Manifest]) -> list[str]:
    """When, on what and in which time the stages were made."""
    times = sorted(filter(None, (manifest.document.get("made_at") for manifest in manifests.values())))
    seconds = sum(manifest.document["seconds"] for manifest in manifests.values())
    span = " to ".join(dict.fromkeys(time[:16].replace("T", " ") for time in (times[0], times[-1]))) if times else ""
    when = [f"Made {span} UTC in {seconds:,.0f} s of work, arms added up."] if span else []
    machines: dict[str, list[str]] = {}
    for key, manifest in manifests.items():
        machines.setdefault(machine_line(manifest.document), []).append(key)
    whole = len(machines) == 1
    return when + [f"On {machine}{'' if whole else ': ' + ', '.join(keys)}." for machine, keys in machines.items()]


def _stage_row(key: str, manifest: Manifest) -> Row:
    document = manifest.document
    return {
        "stage": key,
        "fingerprint": manifest.fingerprint,
        "content": manifest.content[:16],
        "seal": document.get("seal", "")[:16],
        "seconds": f"{document['seconds']:.1f}",
        "CPU seconds": f"{document['timings'].get('cpu_seconds', 0):.0f}",
        "peak MB": f"{document['timings'].get('peak_memory_bytes', 0) / 1e6:.0f}",
        "code": (document["code"]["commit"] or "-")[:10],
        "MLflow run": document["mlflow_run_id"],
    }


def _notes(manifests: Mapping[str, Manifest]) -> list[tuple[str, str]]:
    """(stages, what they want noted), none twice."""
    said: dict[str, list[str]] = {}
    for key, manifest in manifests.items():
        for note in manifest.document["notes"]:
            said.setdefault(note, []).append(key)
    return [(", ".join(keys), note) for note, keys in said.items()]


def _samples(evaluation: Manifest, curation: Manifest | None) -> Sequence[Row]:
    """Some greedy responses, with the right answers beside them."""
    answers = right_answers(curation) if curation else {}
    return [{**cut(row), "answer": answers.get(row["problem"], "")} for row in evaluation.tables()["samples"]]
