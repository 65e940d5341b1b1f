"""The report as one HTML file that needs nothing else."""

import dataclasses
from html import escape

from tithon_bench.report import plot, terminal
from tithon_bench.statistics import Spread, exponent

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
td, th { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
.scroll { overflow-x: auto; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
.plots svg { width: 460px; max-width: 100%; font: 12px system-ui, sans-serif; fill: #444; }
.grid { stroke: #e4e4e4; } .title { font-weight: 600; fill: #222; }
.failed { color: #b00020; }
"""


def render(results, about, scale, measurements):
    peers = terminal.present(results)
    body = ["<h1>Tithon beside its peers</h1>"]
    body.append(
        "<p>Medians, and in brackets the range, over the rounds of one run in which all were measured in turn; "
        "ratios are of values of the same round. Lower is better. The figures hold for the machine below.</p>"
    )
    body.append(_table([["", ""], *([name, value] for name, value in about.items())]))
    for failure in results.failures:
        words = f"{failure['measurement']} of {failure['peer']} failed: {failure['reason']}"
        body.append(f'<p class="failed">{escape(words)}</p>')
    judged = terminal.verdict_rows(results)
    if len(judged) > 1:
        body.append("<h2>Targets</h2>" + _table(judged))
    plots = [plotted for key, figures in results.series().items() if (plotted := _plot(key, figures, peers))]
    if plots:
        body.append(
            "<h2>Growth</h2><p>k is the exponent of cost = c·size<sup>k</sup>: 0 is flat, 1 proportional.</p>"
            f'<div class="plots">{"".join(plots)}</div>'
        )
    for name, what in measurements.items():
        figures = [figure for figure in results.figures.values() if figure.measurement == name]
        if figures:
            body.append(f"<h2>{escape(name)}</h2><p>{escape(what)}</p>" + _table(terminal.rows(figures, peers)))
    sizes = [[name, str(value)] for name, value in dataclasses.asdict(scale).items()]
    body.append("<h2>Sizes</h2>" + _table([["", ""], *sizes]))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Tithon beside its peers</title>'
        f"<style>{_STYLE}</style><body>{''.join(body)}</body></html>\n"
    )


def _plot(key, figures, peers):
    """A series' plot; nothing where there are no two positive points."""
    lines = {}
    for peer in peers:
        points = []
        for figure in figures:
            if figure.values.get(peer):
                spread = Spread(figure.values[peer].values())
                if spread.median > 0:
                    points.append((figure.size, spread.median, spread.low, spread.high))
        power = exponent([point[:2] for point in points])
        if power is not None:
            lines[f"{peer}: k = {power:.2f}"] = (peer, points)
    return plot.growth("/".join(key), figures[0].unit, lines) if lines else ""


def _table(lines):
    head = "".join(f"<th>{escape(cell)}</th>" for cell in lines[0])
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines[1:])
    header = f"<tr>{head}</tr>" if any(lines[0]) else ""
    return f'<div class="scroll"><table>{header}{rows}</table></div>'
