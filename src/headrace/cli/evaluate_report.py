"""From findings to the files of a report: JSON and a grid of the first pictures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.cli.evaluate_samples import Samples
from headrace.evaluation.evaluate import Findings
from headrace.evaluation.extraction import batches
from headrace.evaluation.report import Report, shorten
from headrace.evaluation.sizes import first_size
from headrace.files import write_file
from headrace.pictures.entry import PictureSource
from headrace.pictures.folder import FileSource
from headrace.pictures.grid import image_grid
from headrace.software import software

_GRID = 64
_COLUMNS = 8


def write_report(samples: Samples | None, findings: Findings, data: PictureSource | None, out: Path) -> Report:
    """Writes `out` and, where there are samples, a grid beside it. Raises `OutputError`."""
    described: dict[str, Any] = {}
    if data is not None:
        described = {"path": data.name, "pictures": findings.data_pictures, "digest": findings.data_digest}
    made = samples or Samples(source=_NOTHING, name=f"self-check of {described.get('path', '')}", work=out.parent)
    report = Report(
        headrace=software(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        name=made.name,
        settings=made.settings,
        data=described,
        figures=findings.figures,
        cost=made.cost,
        machine=made.machine,
        self_checks=findings.checks,
        skipped=shorten(findings.skipped),
        skipped_count=len(findings.skipped),
        warnings=[*made.warnings, *findings.warnings],
        files={} if samples is None else _write_grid(samples, out),
    )
    report.write(out)
    return report


_NOTHING = FileSource("nothing", [])


def _write_grid(samples: Samples, out: Path) -> dict[str, str]:
    """A grid of the first pictures beside the report. Returns where it and the samples are."""
    source = samples.source
    if isinstance(source, FileSource):
        source = replace(source, paths=source.paths[:_GRID], labels=None, captions=None)
    grid = out.with_suffix(".png")
    batch = next(batches(source, first_size(source), _GRID, []))
    image = image_grid(batch.pictures, _COLUMNS)
    write_file(grid, lambda temporary: image.save(temporary, format="PNG"))
    return {"samples": samples.source.name, "grid": str(grid)}
