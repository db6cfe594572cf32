"""Results as Markdown tables, and as JSON."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs
import orjson

__all__ = ["LATEST", "Section", "Target", "environment", "judged", "render", "save"]

LATEST = Path(__file__).parent / "results" / "latest.json"
Cell = str | float | int


@attrs.frozen
class Section:
    """One table.

    Attributes:
        title: The heading.
        columns: The headings of its columns, with units.
        rows: Its rows.
        note: How it was measured, and where the compared clients do different work.
        figures: The figures that have targets, by name.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    figures: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen
class Target:
    """A figure to reach.

    Attributes:
        figure: Its name in a section's figures.
        title: What the figure measures.
        limit: The target.
        at_least: Whether the figure is to be at least the target, rather than at most.
        unit: The unit of both.
    """

    figure: str
    title: str
    limit: float
    at_least: bool = False
    unit: str = "x"

    def reached_by(self, value: float) -> bool:
        """Whether a measured figure reaches the target."""
        return value >= self.limit if self.at_least else value <= self.limit


def environment(versions: Mapping[str, str], load: float) -> dict[str, str]:
    """Describe when, where and with which versions the figures were measured.

    Args:
        versions: The versions of the other SDKs.
        load: The machine's load average before the run; the one after it is added. Wall-clock figures, such as lags and
            import times, mean little on a busy machine.
    """
    own = {name: importlib.metadata.version(name) for name in ("inferencesh", "aiohttp", "orjson", "attrs", "cattrs")}
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "load before and after": f"{load:.1f}, {os.getloadavg()[0]:.1f}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **own,
        **{f"{name} (compared)": version for name, version in versions.items()},
    }


def judged(sections: Iterable[Section], targets: Sequence[Target]) -> Section:
    """Compare the measured figures with the targets."""
    figures = {name: value for section in sections for name, value in section.figures.items()}
    rows = [
        (
            target.title,
            f"{'at least' if target.at_least else 'at most'} {_shown(target.limit)} {target.unit}",
            f"{_shown(figures[target.figure])} {target.unit}",
            "yes" if target.reached_by(figures[target.figure]) else "no",
        )
        for target in targets
        if target.figure in figures
    ]
    return Section("Targets", ("figure", "target", "measured", "reached"), rows)


def render(section: Section) -> str:
    """Return a section as a Markdown table with aligned columns."""
    rows = [list(section.columns), *([_shown(cell) for cell in row] for row in section.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(section.columns))]
    texts = [all(isinstance(row[column], str) for row in section.rows) for column in range(len(section.columns))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(cells, widths, texts, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = line([("-" * width if text else "-" * (width - 1) + ":") for width, text in zip(widths, texts, strict=True)])
    lines = [f"### {section.title}", "", line(rows[0]), rule, *map(line, rows[1:])]
    return "\n".join([*lines, *(["", section.note] if section.note else []), ""])


def save(path: Path, about: Mapping[str, str], sections: Iterable[Section]) -> None:
    """Write all sections to a JSON file."""
    tables = [
        {
            "title": section.title,
            "rows": [dict(zip(section.columns, row, strict=True)) for row in section.rows],
            "note": section.note,
            "figures": dict(section.figures),
        }
        for section in sections
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"environment": dict(about), "sections": tables}
    path.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _shown(cell: Cell) -> str:
    if isinstance(cell, str | int):
        return str(cell)
    return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
