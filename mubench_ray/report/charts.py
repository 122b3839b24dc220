"""The charts of a report: one list of them, which the page, the figure files and the documentation follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import altair as alt

from mubench_ray.report.columns import COLUMN, Column, Place, shown_in
from mubench_ray.report.frontier import CHARGED, COST, ENDINGS
from mubench_ray.report.report import Report
from mubench_ray.report.styles import DATA, STAND_INS, Drawn, Style

#: From this many contenders on, lines and intervals are drawn thinner.
CROWD = 12
#: Height of a row in charts that have one a contender or example.
ROW = alt.Step(24)
INK = "#222222"
#: A contender with its marks: the parameter ``names`` has them, for an axis, a legend and a heading as for a row. A heading
#: puts an expression without brackets for ``datum.label``, so that it stands in no operator's reach.
NAMED = "if(names[datum.label], names[datum.label], datum.label)"
METHOD = alt.Tooltip("name:N", title="method")
RETRAIN = alt.datum.method == "retrain"


@dataclass(frozen=True)
class Figure:
    """How a chart becomes a file: its name's beginning, the size of a panel (``height`` and so much more a contender),
    and how many stand beside each other."""

    name: str
    width: int
    height: int
    each: int = 0
    columns: int = 3


@dataclass(frozen=True)
class Chart:
    """A chart of the report, a panel for each column that it ``needs`` and that is there.

    ``name`` is that of its section on the page and of the rows that the page's script gives it; in ``note`` and ``how``
    (what to do where nothing can be drawn) words between backquotes are code and ROOT is the folder. ``height`` is that
    of a panel on the page, ``beside`` how many stand there beside each other. Not every chart has a ``figure``.
    """

    name: str
    title: str
    note: str
    needs: Callable[[Report], list[Column]]
    draw: Callable[[Panels, Column, bool], Drawn]
    height: int | alt.Step | None
    beside: str = "three"
    how: str = ""
    figure: Figure | None = None


class Panels:
    """Builds the panels of one report, all with the same colours. ``legend`` is drawn for figures; the page has its
    own."""

    def __init__(self, drawn: list[Style], ratios: list[float], legend: bool = False) -> None:
        names, columns = STAND_INS["label"], 1 if len(drawn) <= 16 else 2
        key = (
            alt.Legend(title=None, symbolSize=90, symbolOpacity=1, labelLimit=260, columns=columns, labelExpr=NAMED)
            if legend
            else None
        )

        def scale(field: str) -> alt.Scale:
            return alt.Scale(domain=names, range=STAND_INS[field])

        self.color = alt.Color("label:N", scale=scale("colour"), legend=key, sort=names)
        self.shape = alt.Shape("label:N", scale=scale("shape"), legend=key, sort=names)
        self.dash = alt.StrokeDash("label:N", scale=scale("dash"), legend=None)
        self.crowded = len(drawn) > CROWD
        self.ratios = ratios

    def line(self, x: alt.X, y: alt.Y, width: float, opacity: float = 0.9, **more: Any) -> alt.Chart:
        """A line a contender."""
        made = alt.Chart().mark_line(strokeWidth=width, opacity=opacity)
        return made.encode(x=x, y=y, color=self.color, strokeDash=self.dash, **more)

    def point(self, x: alt.X, y: alt.Y, size: int, tooltips: list[alt.Tooltip], **more: Any) -> alt.Chart:
        """A point a row."""
        made = alt.Chart().mark_point(filled=True, size=size, opacity=1)
        return made.encode(x=x, y=y, color=self.color, shape=self.shape, tooltip=tooltips, **more)

    def against_ratio(self, column: Column, first: bool) -> Drawn:
        """Against the deleted share of the training set: a line a contender, 95% intervals, the retrain as a band."""
        ticks = alt.Axis(values=self.ratios, format="~f", grid=False, labelOverlap=True)
        scale = alt.Scale(zero=False, nice=False, padding=14)
        x = alt.X("x:Q", title="deleted, % of the training set", axis=ticks, scale=scale)
        y, edges = value_axis(column), interval(column)
        band = alt.Chart().mark_area(color=INK, opacity=0.10).encode(x=x, **edges)
        rule = alt.Chart().mark_rule(strokeWidth=1.2, opacity=0.2 if self.crowded else 0.55)
        rule = rule.encode(x=x, color=self.color, **edges).transform_filter("datum.method != 'retrain'")
        line = self.line(x, y, 1.3 if self.crowded else 2)
        point = self.point(x, y, 26 if self.crowded else 46, tooltip(column))
        return panel(column, f"isValid(datum.{column.name})", band.transform_filter(RETRAIN), rule, line, point)

    def glance(self, column: Column, first: bool) -> Drawn:
        """One row a contender: its value with the 95% interval, the retrain's as a band behind all."""
        y = contenders_axis(labels=first)
        scale, axis = alt.Scale(zero=False, nice=True), alt.Axis(grid=False, tickCount=4)
        x = alt.X(f"{column.name}:Q", title=None, scale=scale, axis=axis)
        edges: dict[str, Any] = {"x": alt.X(f"{column.name}_low:Q", title=None), "x2": f"{column.name}_high:Q"}
        band = alt.Chart().mark_rect(color=INK, opacity=0.10).encode(**edges).transform_filter(RETRAIN)
        goal = reference().encode(x=x).transform_filter(RETRAIN)
        bar = alt.Chart().mark_rule(strokeWidth=2, opacity=0.6).encode(y=y, color=self.color, **edges)
        point = self.point(x, y, 64, tooltip(column))
        return panel(column, f"isValid(datum.{column.name})", band, goal, bar, point)

    def frontier(self, column: Column, first: bool, by: str = COST) -> Drawn:
        """Against the share of the retrain's FLOs (log); what another contender beats on both is faded, the rest joined
        and named. Neither where the measure ranks nothing, and ``_dominated`` is null."""
        values = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
        values += [2, 5, 10, 20, 50, 100, 200, 500, 1000] if by == CHARGED else []
        axis = alt.Axis(format="~%", grid=False, values=values, labelOverlap=True)
        scale = alt.Scale(type="log", nice=False, padding=30)
        title = "share of the retrain's FLOs" + (", tuning charged" if by == CHARGED else "")
        x = alt.X(f"{by}:Q", title=title, scale=scale, axis=axis)
        y, name, ending = value_axis(column), column.name, ENDINGS[by]
        flag = f"datum['{name}_dominated{ending}']"
        beaten = f"{flag} === true"
        line = alt.Chart().mark_line(interpolate="step-after", color="#9aa1ab", strokeWidth=1.2, strokeDash=[3, 3])
        line = line.encode(x=x, y=y).transform_filter(f"{flag} === false")
        faint, faded = (
            alt.when(beaten).then(alt.value(low)).otherwise(alt.value(high)) for low, high in ((0.2, 0.5), (0.32, 1))
        )
        bar = alt.Chart().mark_rule(strokeWidth=1.3).encode(x=x, color=self.color, opacity=faint, **interval(column))
        tooltips = [*tooltip(column), hint(by, ".1%", COLUMN[by].title)]
        point = self.point(x, y, 80, tooltips, opacity=faded)
        text = alt.Chart().mark_text(align="left", dx=8, dy=-8, fontSize=11)
        text = text.encode(x=x, y=y, text="name:N", color=self.color).transform_filter(
            f"datum['{name}_labelled{ending}']"
        )
        return panel(column, f"isValid(datum.{name}) && datum.{by} > 0", line, bar, point, text)

    def charged(self, column: Column, first: bool) -> Drawn:
        """The frontier with tuning charged."""
        return self.frontier(column, first, CHARGED)

    def along_budget(self, column: Column, first: bool) -> Drawn:
        """Had the method stopped at a share of the retrain's FLOs."""
        x = alt.X("share:O", title="stopped at % of the retrain's FLOs", axis=alt.Axis(labelAngle=0, grid=False))
        y = value_axis(column)
        tooltips = [*tooltip(column, edges=False), hint("spent", ".1%", "really spent")]
        goal = reference().encode(y=y).transform_filter("datum.method == 'retrain' && datum.share == 100")
        parts = (self.line(x, y, 2), self.point(x, y, 40, tooltips))
        theirs = (part.transform_filter("datum.method != 'retrain' && datum.method != 'original'") for part in parts)
        return panel(column, f"isValid(datum.{column.name})", goal, *theirs)

    def resisting(self, column: Column, first: bool) -> Drawn:
        """Examples against contenders, coloured by how much surer than the retrain the contender still is."""
        rows = alt.Axis(ticks=False, domain=False, labelLimit=200)
        y = alt.Y("example:N", title=None, sort=alt.EncodingSortField("place", op="min"), axis=rows)
        heads = alt.Axis(orient="top", labelAngle=-35, ticks=False, domain=False, labelLimit=160, labelExpr=NAMED)
        x = alt.X("label:N", title=None, sort=STAND_INS["label"], axis=heads)
        legend = alt.Legend(title=column.title, orient="right", gradientLength=160, titleLimit=220)
        color = alt.Color("excess:Q", scale=alt.Scale(scheme="purpleorange", domainMid=0), legend=legend)
        tooltips = [alt.Tooltip("example:N"), METHOD, hint("excess", "+.2f", "excess, logits")]
        tooltips += [hint("kept", ".0%", "models still right"), hint("retrained", ".0%", "retrains right")]
        cells = alt.Chart().mark_rect(stroke="#ffffff", strokeWidth=2)
        return named(alt.layer(cells.encode(x=x, y=y, color=color, tooltip=tooltips)))

    def histograms(self, column: Column, first: bool) -> Drawn:
        """A small panel a contender: scores of models that forgot an example against models that never saw it."""
        sides = alt.Scale(domain=["forgotten", "never seen"], range=["#d55e00", "#5b6472"])
        legend = alt.Legend(title=None, orient="top", symbolType="square", symbolOpacity=0.6)
        tooltips = [METHOD, alt.Tooltip("side:N"), hint("from", ".2f"), hint("to", ".2f"), hint("share", ".1%")]
        bars = (
            alt.Chart(alt.NamedData(name=DATA))
            .transform_calculate(name=NAMED)
            .mark_bar(opacity=0.5, binSpacing=0)
            .encode(
                x=alt.X("from:Q", bin="binned", title=None, axis=alt.Axis(grid=False, tickCount=5)),
                x2="to:Q",
                y=alt.Y("share:Q", stack=None, title=None, axis=alt.Axis(format="~%", tickCount=3)),
                color=alt.Color("side:N", scale=sides, legend=legend),
                tooltip=tooltips,
            )
            .properties(width=258, height=90)
        )
        look: dict[str, Any] = {"labelFontSize": 12, "labelFontWeight": 600, "labelColor": "#111827"}
        head = alt.Header(title=None, labelPadding=4, labelExpr=NAMED, **look)
        return bars.facet(facet=alt.Facet("label:N", header=head, sort=STAND_INS["label"]), columns=4, spacing=14)

    def capacity(self, column: Column, first: bool) -> Drawn:
        """Largest deleted share that leaves D_Test as it was: a row a contender, with its 95% interval."""
        y = contenders_axis()
        x = alt.X("capacity:Q", title="% of the training set", scale=alt.Scale(zero=True), axis=alt.Axis(grid=False))
        words = {"capacity": "%", "low": "from", "high": "to"}
        tooltips = [METHOD]
        tooltips += [alt.Tooltip(f"{name}:Q", title=word) for name, word in words.items()]
        bar = alt.Chart().mark_rule(strokeWidth=2, opacity=0.6)
        bar = bar.encode(x=alt.X("low:Q", title=None), x2="high:Q", y=y, color=self.color)
        known = bar.transform_filter("isValid(datum.low)")
        return panel(column, f"datum.metric == '{column.name}'", known, self.point(x, y, 64, tooltips))

    def scaling(self, column: Column, first: bool) -> Drawn:
        """Against the FLOs of unlearning, a point a model, a line a contender."""
        scale, axis = alt.Scale(type="log", nice=False, padding=20), alt.Axis(format="~e", grid=False)
        x = alt.X("flos:Q", title="FLOs of unlearning", scale=scale, axis=axis)
        y = alt.Y(f"{column.name}:Q", title=column.title, scale=alt.Scale(zero=False, nice=True))
        tooltips = [METHOD, alt.Tooltip("task:N"), alt.Tooltip("model:N"), hint("flos", ".3e", "FLOs")]
        tooltips += [hint(column.name, ".4f", column.title), hint("slope", "+.4f", f"{column.title} per tenfold FLOs")]
        tooltips += [hint("standard_error", ".4f", "its standard error")]
        return named(alt.layer(self.line(x, y, 1.6, 0.8, detail="task:N"), self.point(x, y, 56, tooltips)))


def named(drawn: Drawn) -> Drawn:
    """With ``name`` in every row: the contender and its marks."""
    return drawn.transform_calculate(name=NAMED)


def panel(column: Column, known: str, *layers: Drawn | alt.Chart) -> Drawn:
    """Layers of the rows of which this is known, under the column's heading, with ``name`` and ``said``: the value with
    the marks of its measure."""
    said = f"format(datum['{column.name}'], '.4f') + (datum['{column.name}_marks'] || '')"
    drawn = named(alt.layer(*layers)).transform_filter(known).transform_calculate(said=said)
    return drawn.properties(title=column.title)


def value_axis(column: Column) -> alt.Y:
    """The axis of a column's values."""
    scale = alt.Scale(type="sqrt", zero=True) if column.root else alt.Scale(zero=False, nice=True)
    return alt.Y(f"{column.name}:Q", title=None, scale=scale)


def interval(column: Column) -> dict[str, Any]:
    """Both ends of a column's interval."""
    return {"y": alt.Y(f"{column.name}_low:Q", title=None), "y2": f"{column.name}_high:Q"}


def contenders_axis(labels: bool = True) -> alt.Y:
    """One row a contender."""
    look: dict[str, Any] = {"ticks": False, "domain": False, "grid": True, "gridDash": [1, 3], "labelLimit": 230}
    axis = alt.Axis(labels=labels, labelPadding=8, labelExpr=NAMED, **look)
    return alt.Y("label:N", title=None, sort=STAND_INS["label"], axis=axis)


def reference() -> alt.Chart:
    """The dashed line of the retrain."""
    return alt.Chart().mark_rule(color=INK, strokeDash=[5, 3], strokeWidth=1.3)


def hint(field: str, form: str, title: str = "") -> alt.Tooltip:
    """One number of what hovering says, under its own name unless it has a title."""
    return alt.Tooltip(f"{field}:Q", format=form, title=title or alt.Undefined)


def tooltip(column: Column, edges: bool = True) -> list[alt.Tooltip]:
    """What hovering a point says."""
    known = (("_low", "from"), ("_high", "to")) if edges else ()
    values = [hint(f"{column.name}{edge}", ".4f", word) for edge, word in known]
    mean = alt.Tooltip("said:N", title=column.title)
    return [METHOD, alt.Tooltip("ratio:N", title="ratio %"), mean, *values, alt.Tooltip("n:Q", title="trials")]


def having(place: Place, ending: str = "") -> Callable[[Report], list[Column]]:
    """The columns shown in this place whose values, or what is made of them, are there."""

    def found(report: Report) -> list[Column]:
        there = report.scopes.column_names
        return [column for column in shown_in(place, report.results.columns) if f"{column.name}{ending}" in there]

    return found


CHARTS = (
    Chart(
        "glance",
        "At a glance",
        "Band and dashed line: the retrained model and its 95% interval. The nearer to it, the better, on every panel.",
        having("glance"),
        Panels.glance,
        ROW,
        "four",
        figure=Figure("glance", 210, 40, each=22, columns=4),
    ),
    Chart(
        "ratio",
        "Against the deleted share",
        "Black dashed line and band: retrain. Bars: 95% intervals over seeds. Points are moved sideways a little so that "
        "bars do not hide each other.",
        lambda report: having("curves")(report) if len(report.ratios) > 1 else [],
        Panels.against_ratio,
        300,
        figure=Figure("against-ratio", 300, 260),
    ),
    Chart(
        "frontier",
        "Cost frontier",
        "Faded: another method is no dearer and no worse; the dashed steps join those that none beats. What is untrusted "
        "ranks nothing: nobody is faded or joined by it. RetDev is drawn on a square-root axis; down is better. Indisc: up is "
        "better.",
        having("frontier", "_dominated"),
        Panels.frontier,
        340,
        "two",
        figure=Figure("frontier", 400, 300),
    ),
    Chart(
        "charged",
        "Cost frontier, tuning charged",
        "As above; a method also pays for all its search trials, whatever became of them, and for the originals and "
        "retrains of the selection seeds. Right of 100 % one retrain is cheaper than what was found.",
        having("frontier", "_dominated_with_tuning"),
        Panels.charged,
        340,
        "two",
        figure=Figure("frontier-with-tuning", 400, 300),
    ),
    Chart(
        "budget",
        "If unlearning stopped early",
        "Score at 0, 1, 5, 10, 25, 50 and 100 % of the retrain's FLOs, on at most 1,000 examples of each split. A method "
        "that ends earlier keeps its last value. Dashed: retrain.",
        having("curves", "@1"),
        Panels.along_budget,
        280,
        figure=Figure("budget", 300, 260),
    ),
    Chart(
        "resisting",
        "Examples that resist forgetting",
        "The deleted examples whose true label unlearned models stay surest of, compared with retrained models of the "
        "same ratio (difference of mean log-odds, averaged over ratios and seeds; ordered by the median over methods). "
        "Orange: not forgotten; purple: forgotten beyond what retraining forgets.",
        lambda report: [Column("excess", "surer than the retrain, logits")] if report.resisting else [],
        Panels.resisting,
        ROW,
        "one",
    ),
    Chart(
        "lira",
        "U-LiRA: forgotten or never seen?",
        "Scores of single examples of D_F: models that were asked to forget them (orange) against retrained models that "
        "never saw them (grey). Where the two lie on each other no attack can tell them apart.",
        lambda report: [Column("share", "share of the scores")] if len(report.histograms) else [],
        Panels.histograms,
        None,
        "one",
        how="Needs the stored examples of trials and of their retrains, which `mubench run` writes to examples/ where "
        "the suite has the method retrain.",
    ),
    Chart(
        "capacity",
        "Deletion capacity",
        "The largest deleted share up to which D_Test stays inside a margin around the original's, with its 95% interval "
        "over training seeds: one of the ratios tried, or 0.",
        lambda report: [c for c in shown_in("capacity") if any(row["metric"] == c.name for row in report.capacities)],
        Panels.capacity,
        ROW,
        "two",
        how="Not computed yet: `mubench score ROOT --metric deletion_capacity` (or `deletion_capacity_accuracy`), then "
        "`mubench report ROOT`.",
    ),
    Chart(
        "scaling",
        "Scaling",
        "D_F against what unlearning cost, a point a model, averaged over ratios and seeds. `mubench score ROOT --metric "
        "scaling` fits the slopes, which hovering shows with their standard error.",
        lambda report: [COLUMN["forget_accuracy"]] if report.scaling else [],
        Panels.scaling,
        360,
        "one",
        how="Needs a task with at least two models.",
    ),
)


def drawn_on(report: Report, chart: Chart, panels: Panels) -> list[tuple[Column, Drawn]]:
    """The panels of a chart, each with its column; none where nothing can be drawn."""
    columns = chart.needs(report)
    return [(column, chart.draw(panels, column, place == 0)) for place, column in enumerate(columns)]
