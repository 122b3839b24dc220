"""How contenders are drawn, the same in every chart, and how a chart becomes a Vega-Lite specification.

A panel reads its rows from the named data set ``rows``; the page replaces them when a filter moves, a figure carries
them inside.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from typing import Any

import altair as alt

#: Okabe & Ito's colours, told apart with any colour vision; the yellow is darkened to be seen on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#8c6d31")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
DASHES = ([1, 0], [6, 3], [2, 2])
REFERENCE_COLOUR = {"retrain": "#222222", "original": "#8a8f98"}
FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
DATA = "rows"
#: Stand in for the lists over contenders while a chart is put together: Altair copies every layer many times, and
#: lists of hundreds of names with it.
STAND_INS = {field: [f"@{field}"] for field in ("label", "colour", "shape", "dash")}

#: What a panel is; which of the two, Altair does not tell.
Drawn = alt.LayerChart | alt.FacetChart


@dataclass(frozen=True)
class Style:
    """How one contender is drawn: colours first, then shapes and dashes where there are more contenders than
    colours."""

    label: str
    colour: str
    shape: str
    dash: list[int]
    control: bool = False


def styles(labels: list[tuple[str, str]]) -> list[Style]:
    """A Style for each (label, method), in the order given; controls are black and grey."""
    drawn, position = [], 0
    for label, method in labels:
        if method in REFERENCE_COLOUR:
            shape, dash = ("diamond", [5, 3]) if method == "retrain" else ("circle", [2, 3])
            drawn.append(Style(label, REFERENCE_COLOUR[method], shape, dash, control=True))
            continue
        turn = position // len(COLOURS)
        drawn.append(
            Style(
                label,
                COLOURS[position % len(COLOURS)],
                SHAPES[(position + turn) % len(SHAPES)],
                list(DASHES[turn % len(DASHES)]),
            )
        )
        position += 1
    return drawn


def filled(spec: Any, drawn: list[Style]) -> Any:
    """The spec with the contenders' own lists for their stand-ins."""
    if isinstance(spec, dict):
        return {key: filled(value, drawn) for key, value in spec.items()}
    if isinstance(spec, list):
        for field, stand_in in STAND_INS.items():
            if spec == stand_in:
                return [getattr(style, field) for style in drawn]
        return [filled(value, drawn) for value in spec]
    return spec


def configure(chart: alt.TopLevelMixin, drawn: list[Style]) -> dict[str, Any]:
    """The chart as a Vega-Lite spec with the report's typography, reading the named data set."""
    chart.data = alt.NamedData(name=DATA)
    styled = (
        chart.configure(font=FONT, background="#ffffff")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor="#4b5563", titleColor="#4b5563", titleFontWeight="normal", labelFontSize=11, titleFontSize=11.5,
            gridColor="#e8eaee", domainColor="#c3c7ce", tickColor="#c3c7ce",
        )
        .configure_title(anchor="start", fontSize=13.5, fontWeight=600, color="#111827", offset=10)
        .configure_legend(labelFontSize=12, labelColor="#111827")
    )  # fmt: skip
    return filled(styled.to_dict(validate=False), drawn)


def panel_spec(chart: Drawn, drawn: list[Style], height: int | alt.Step | None, metric: str = "") -> dict[str, Any]:
    """A panel for the page: as wide as its box; ``height`` in pixels, or a step for each row. None for a grid of small
    panels, of which the page sets how many stand beside each other.

    The page sets ``names``, the contenders with their marks, and ``mark``, that of the ``metric``, as its filters move.
    """
    spec = configure(chart if height is None else chart.properties(width="container", height=height), drawn)
    if height is not None:
        spec["autosize"] = {"type": "fit-x" if isinstance(height, alt.Step) else "fit", "contains": "padding"}
    if "title" in spec:
        spec["title"] = {"text": {"expr": f"{json.dumps(spec['title'])} + mark"}}
    spec["params"] = [*spec.get("params", []), {"name": "names", "value": {}}, {"name": "mark", "value": ""}]
    spec["usermeta"] = {"metric": metric}
    return spec


def figure_spec(
    panels: list[Drawn],
    drawn: list[Style],
    rows: list[dict[str, Any]],
    title: str,
    width: int,
    height: int,
    columns: int = 3,
    names: dict[str, str] | None = None,
    said: str = "",
) -> dict[str, Any]:
    """Panels side by side with a common legend and their rows inside, for a PNG. ``names`` are the contenders with their
    marks, ``said`` is what stands below the title."""
    sized = [panel.properties(width=width, height=height) for panel in panels]
    lines = textwrap.wrap(said, max(60, width * min(columns, len(panels)) // 6))
    head = alt.TitleParams(title, subtitle=lines, subtitleColor="#4b5563") if lines else title
    spec = configure(alt.concat(*sized, columns=columns, spacing=26).properties(title=head), drawn)
    spec["params"] = [*spec.get("params", []), {"name": "names", "value": names or {}}]
    spec["datasets"] = {DATA: rows}
    spec["padding"] = 16
    return spec
