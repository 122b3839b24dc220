"""Chart specifications: the same Vega-Lite spec is drawn on the page and saved as PNG.

A panel reads its rows from the named data set ``rows``; the page replaces them when a filter moves, a figure carries
them inside.
"""

from __future__ import annotations

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
#: From this many contenders on, lines and intervals are drawn thinner.
CROWD = 12


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


class Panels:
    """Builds the panels of one report, all with the same colours. ``legend`` is drawn for figures; the page has its
    own."""

    def __init__(self, drawn: list[Style], ratios: list[float], legend: bool = False) -> None:
        names = [style.label for style in drawn]
        keyed = {"domain": STAND_INS["label"]}
        legend_of = (
            alt.Legend(title=None, symbolSize=90, symbolOpacity=1, labelLimit=260, columns=1 if len(names) <= 16 else 2)
            if legend
            else None
        )
        self.color = alt.Color(
            "label:N", scale=alt.Scale(**keyed, range=STAND_INS["colour"]), legend=legend_of, sort=STAND_INS["label"]
        )
        self.shape = alt.Shape(
            "label:N", scale=alt.Scale(**keyed, range=STAND_INS["shape"]), legend=legend_of, sort=STAND_INS["label"]
        )
        self.dash = alt.StrokeDash("label:N", scale=alt.Scale(**keyed, range=STAND_INS["dash"]), legend=None)
        self.drawn = drawn
        self.crowded = len(names) > CROWD
        self.ratios = ratios

    def against_ratio(self, metric: str, title: str) -> alt.LayerChart:
        """``metric`` against the deleted share of the training set: a line a contender, 95% intervals, the retrain as a
        band."""
        ticks = alt.Axis(values=self.ratios, format="~f", grid=False, labelOverlap=True)
        x = alt.X(
            "x:Q",
            title="deleted, % of the training set",
            axis=ticks,
            scale=alt.Scale(zero=False, nice=False, padding=14),
        )
        y = alt.Y(f"{metric}:Q", title=None, scale=alt.Scale(zero=False, nice=True))
        base = alt.Chart()
        retrain = alt.datum.method == "retrain"
        band = base.mark_area(color="#222222", opacity=0.10).encode(
            x=x, y=alt.Y(f"{metric}_low:Q", title=None), y2=f"{metric}_high:Q"
        )
        line = base.mark_line(strokeWidth=1.3 if self.crowded else 2, opacity=0.9).encode(
            x=x, y=y, color=self.color, strokeDash=self.dash
        )
        rule = base.mark_rule(strokeWidth=1.2, opacity=0.2 if self.crowded else 0.55).encode(
            x=x, y=alt.Y(f"{metric}_low:Q", title=None), y2=f"{metric}_high:Q", color=self.color
        )
        point = base.mark_point(filled=True, size=26 if self.crowded else 46, opacity=1).encode(
            x=x, y=y, color=self.color, shape=self.shape, tooltip=tooltip(metric, title)
        )
        known = f"isValid(datum.{metric})"
        return (
            alt.layer(band.transform_filter(retrain), rule.transform_filter("datum.method != 'retrain'"), line, point)
            .transform_filter(known)
            .properties(title=title)
        )

    def glance(self, metric: str, title: str, labelled: bool) -> alt.LayerChart:
        """One row a contender: its value with the 95% interval, the retrain's as a band behind all."""
        y = alt.Y(
            "label:N",
            title=None,
            sort=STAND_INS["label"],
            axis=alt.Axis(
                labels=labelled, ticks=False, domain=False, grid=True, gridDash=[1, 3], labelLimit=230, labelPadding=8
            ),
        )
        x = alt.X(
            f"{metric}:Q", title=None, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(grid=False, tickCount=4)
        )
        base = alt.Chart()
        retrain = alt.datum.method == "retrain"
        band = base.mark_rect(color="#222222", opacity=0.10).encode(
            x=alt.X(f"{metric}_low:Q", title=None), x2=f"{metric}_high:Q"
        )
        goal = base.mark_rule(color="#222222", strokeDash=[5, 3], strokeWidth=1.3).encode(x=x)
        bar = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
            x=alt.X(f"{metric}_low:Q", title=None), x2=f"{metric}_high:Q", y=y, color=self.color
        )
        point = base.mark_point(filled=True, size=64, opacity=1).encode(
            x=x, y=y, color=self.color, shape=self.shape, tooltip=tooltip(metric, title)
        )
        return (
            alt.layer(band.transform_filter(retrain), goal.transform_filter(retrain), bar, point)
            .transform_filter(f"isValid(datum.{metric})")
            .properties(title=title)
        )

    def frontier(self, metric: str, title: str) -> alt.LayerChart:
        """``metric`` against the share of the retrain's FLOs (log); what another contender beats on both is faded, the
        rest joined and named."""
        x = alt.X(
            "flos_share:Q",
            title="share of the retrain's FLOs",
            scale=alt.Scale(type="log", nice=False, padding=30),
            axis=alt.Axis(
                format="~%",
                grid=False,
                values=[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1],
                labelOverlap=True,
            ),
        )
        deviation = metric == "retention_deviation"
        scale = alt.Scale(type="sqrt", zero=True) if deviation else alt.Scale(zero=False, nice=True)
        y = alt.Y(f"{metric}:Q", title=None, scale=scale)
        beaten = f"datum['{metric}_dominated']"
        faded = alt.when(beaten).then(alt.value(0.32)).otherwise(alt.value(1))
        named = f"!{beaten}"
        base = alt.Chart()
        line = base.mark_line(interpolate="step-after", color="#9aa1ab", strokeWidth=1.2, strokeDash=[3, 3]).encode(
            x=x, y=y
        )
        bar = base.mark_rule(strokeWidth=1.3).encode(
            x=x,
            y=alt.Y(f"{metric}_low:Q", title=None),
            y2=f"{metric}_high:Q",
            color=self.color,
            opacity=alt.when(beaten).then(alt.value(0.2)).otherwise(alt.value(0.5)),
        )
        point = base.mark_point(filled=True, size=80).encode(
            x=x,
            y=y,
            color=self.color,
            opacity=faded,
            shape=self.shape,
            tooltip=[*tooltip(metric, title), alt.Tooltip("flos_share:Q", format=".1%", title="FLOs share")],
        )
        text = base.mark_text(align="left", dx=8, dy=-8, fontSize=11).encode(x=x, y=y, text="label:N", color=self.color)
        return (
            alt.layer(line.transform_filter(named), bar, point, text.transform_filter(f"datum['{metric}_labelled']"))
            .transform_filter(f"isValid(datum.{metric}) && datum.flos_share > 0")
            .properties(title=title)
        )

    def along_budget(self, metric: str, title: str) -> alt.LayerChart:
        """``metric`` had the method stopped at a share of the retrain's FLOs."""
        x = alt.X("share:O", title="stopped at % of the retrain's FLOs", axis=alt.Axis(labelAngle=0, grid=False))
        y = alt.Y(f"{metric}:Q", title=None, scale=alt.Scale(zero=False, nice=True))
        base = alt.Chart()
        goal = base.mark_rule(color="#222222", strokeDash=[5, 3], strokeWidth=1.3).encode(y=y)
        line = base.mark_line(strokeWidth=2, opacity=0.9).encode(x=x, y=y, color=self.color, strokeDash=self.dash)
        point = base.mark_point(filled=True, size=40, opacity=1).encode(
            x=x,
            y=y,
            color=self.color,
            shape=self.shape,
            tooltip=[
                *tooltip(metric, title, interval=False),
                alt.Tooltip("spent:Q", format=".1%", title="really spent"),
            ],
        )
        return (
            alt.layer(
                goal.transform_filter("datum.method == 'retrain' && datum.share == 100"),
                *(
                    part.transform_filter("datum.method != 'retrain' && datum.method != 'original'")
                    for part in (line, point)
                ),
            )
            .transform_filter(f"isValid(datum.{metric})")
            .properties(title=title)
        )

    def resisting(self) -> alt.LayerChart:
        """Examples against contenders, coloured by how much surer than the retrain the contender still is."""
        y = alt.Y(
            "example:N",
            title=None,
            sort=alt.EncodingSortField("place", op="min"),
            axis=alt.Axis(ticks=False, domain=False, labelLimit=200),
        )
        x = alt.X(
            "label:N",
            title=None,
            sort=STAND_INS["label"],
            axis=alt.Axis(orient="top", labelAngle=-35, ticks=False, domain=False, labelLimit=160),
        )
        scale = alt.Scale(scheme="purpleorange", domainMid=0)
        legend = alt.Legend(title="surer than the retrain, logits", orient="right", gradientLength=160, titleLimit=220)
        tooltips = [
            alt.Tooltip("example:N"),
            alt.Tooltip("label:N", title="method"),
            alt.Tooltip("excess:Q", format="+.2f", title="excess, logits"),
            alt.Tooltip("kept:Q", format=".0%", title="models still right"),
            alt.Tooltip("retrained:Q", format=".0%", title="retrains right"),
        ]
        cells = (
            alt.Chart()
            .mark_rect(stroke="#ffffff", strokeWidth=2)
            .encode(x=x, y=y, color=alt.Color("excess:Q", scale=scale, legend=legend), tooltip=tooltips)
        )
        return alt.layer(cells)

    def histograms(self) -> alt.FacetChart:
        """A small panel a contender: scores of models that forgot an example against models that never saw it."""
        sides = alt.Scale(domain=["forgotten", "never seen"], range=["#d55e00", "#5b6472"])
        legend = alt.Legend(title=None, orient="top", symbolType="square", symbolOpacity=0.6)
        bars = (
            alt.Chart(alt.NamedData(name=DATA))
            .mark_bar(opacity=0.5, binSpacing=0)
            .encode(
                x=alt.X("from:Q", bin="binned", title=None, axis=alt.Axis(grid=False, tickCount=5)),
                x2="to:Q",
                y=alt.Y("share:Q", stack=None, title=None, axis=alt.Axis(format="~%", tickCount=3)),
                color=alt.Color("side:N", scale=sides, legend=legend),
                tooltip=[
                    alt.Tooltip("label:N", title="method"),
                    alt.Tooltip("side:N"),
                    alt.Tooltip("from:Q", format=".2f"),
                    alt.Tooltip("to:Q", format=".2f"),
                    alt.Tooltip("share:Q", format=".1%"),
                ],
            )
            .properties(width=258, height=90)
        )
        head = alt.Header(title=None, labelFontSize=12, labelFontWeight=600, labelColor="#111827", labelPadding=4)
        named = alt.Facet("label:N", header=head, sort=STAND_INS["label"])
        return bars.facet(facet=named, columns=4, spacing=14)

    def capacity(self, metric: str, title: str) -> alt.LayerChart:
        """Largest deleted share that leaves D_Test as it was: a row a contender, with its 95% interval."""
        y = alt.Y(
            "label:N",
            title=None,
            sort=STAND_INS["label"],
            axis=alt.Axis(ticks=False, domain=False, grid=True, gridDash=[1, 3], labelLimit=230, labelPadding=8),
        )
        x = alt.X("capacity:Q", title="% of the training set", scale=alt.Scale(zero=True), axis=alt.Axis(grid=False))
        tooltips = [alt.Tooltip("label:N", title="method")]
        tooltips += [
            alt.Tooltip(f"{name}:Q", title=word) for name, word in (("capacity", "%"), ("low", "from"), ("high", "to"))
        ]
        bar = (
            alt.Chart()
            .mark_rule(strokeWidth=2, opacity=0.6)
            .encode(x=alt.X("low:Q", title=None), x2="high:Q", y=y, color=self.color)
        )
        point = (
            alt.Chart()
            .mark_point(filled=True, size=64, opacity=1)
            .encode(x=x, y=y, color=self.color, shape=self.shape, tooltip=tooltips)
        )
        return (
            alt.layer(bar.transform_filter("isValid(datum.low)"), point)
            .transform_filter(f"datum.metric == '{metric}'")
            .properties(title=title)
        )

    def scaling(self) -> alt.LayerChart:
        """D_F against the FLOs of unlearning, a point a model, a line a contender."""
        x = alt.X(
            "flos:Q",
            title="FLOs of unlearning",
            scale=alt.Scale(type="log", nice=False, padding=20),
            axis=alt.Axis(format="~e", grid=False),
        )
        y = alt.Y("forget_accuracy:Q", title="D_F", scale=alt.Scale(zero=False, nice=True))
        tooltips = [
            alt.Tooltip("label:N", title="method"),
            alt.Tooltip("task:N"),
            alt.Tooltip("model:N"),
            alt.Tooltip("flos:Q", format=".3e", title="FLOs"),
            alt.Tooltip("forget_accuracy:Q", format=".4f", title="D_F"),
            alt.Tooltip("slope:Q", format="+.4f", title="D_F per tenfold FLOs"),
            alt.Tooltip("standard_error:Q", format=".4f", title="its standard error"),
        ]
        line = (
            alt.Chart()
            .mark_line(strokeWidth=1.6, opacity=0.8)
            .encode(x=x, y=y, color=self.color, strokeDash=self.dash, detail="task:N")
        )
        point = (
            alt.Chart()
            .mark_point(filled=True, size=56, opacity=1)
            .encode(x=x, y=y, color=self.color, shape=self.shape, tooltip=tooltips)
        )
        return alt.layer(line, point)


def tooltip(metric: str, title: str, interval: bool = True) -> list[alt.Tooltip]:
    """What hovering a point says."""
    edges = [
        alt.Tooltip(f"{metric}_{edge}:Q", format=".4f", title=word) for edge, word in (("low", "from"), ("high", "to"))
    ]
    return [
        alt.Tooltip("label:N", title="method"),
        alt.Tooltip("ratio:N", title="ratio %"),
        alt.Tooltip(f"{metric}:Q", format=".4f", title=title),
        *(edges if interval else []),
        alt.Tooltip("n:Q", title="trials"),
    ]


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


def panel_spec(chart: alt.LayerChart, drawn: list[Style], height: int | alt.Step) -> dict[str, Any]:
    """A panel for the page: as wide as its box; ``height`` in pixels, or a step for each row."""
    spec = configure(chart.properties(width="container", height=height), drawn)
    spec["autosize"] = {"type": "fit-x" if isinstance(height, alt.Step) else "fit", "contains": "padding"}
    return spec


def grid_spec(chart: alt.FacetChart, drawn: list[Style]) -> dict[str, Any]:
    """A grid of small panels for the page, which sets how many stand beside each other."""
    return configure(chart, drawn)


def figure_spec(
    panels: list[alt.LayerChart],
    drawn: list[Style],
    rows: list[dict[str, Any]],
    title: str,
    width: int,
    height: int,
    columns: int = 3,
) -> dict[str, Any]:
    """Panels side by side with a common legend and their rows inside, for a PNG."""
    sized = [panel.properties(width=width, height=height) for panel in panels]
    spec = configure(alt.concat(*sized, columns=columns, spacing=26).properties(title=title), drawn)
    spec["datasets"] = {DATA: rows}
    spec["padding"] = 16
    return spec
