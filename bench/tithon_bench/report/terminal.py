"""The report as text."""

import dataclasses

from tithon_bench.peers import OURS
from tithon_bench.report.numbers import number, ratio_text, spread_text
from tithon_bench.statistics import Spread, exponent, ratio
from tithon_bench.targets import verdicts


def catalogue(known, scale):
    """What can be measured, and the sizes."""
    lines = ["Measurements:"]
    lines += [f"  {name:18} {one.about}" for name, one in known.items()]
    lines += ["", "Sizes:"]
    for field in dataclasses.fields(scale):
        value = getattr(scale, field.name)
        lines.append(f"  {field.name:18} {','.join(map(str, value)) if isinstance(value, tuple) else value}")
    return "\n".join(lines)


def render(results, about, measurements):
    parts = ["\n".join(f"{name}: {value}" for name, value in about.items())]
    peers = present(results)
    for name, what in measurements.items():
        figures = [figure for figure in results.figures.values() if figure.measurement == name]
        if figures:
            parts.append(f"{name}: {what}\n" + table(rows(figures, peers)))
    growth = growth_rows(results, peers)
    if len(growth) > 1:
        parts.append("growth: the exponent k of cost = c·size^k (0 flat, 1 proportional)\n" + table(growth))
    judged = verdict_rows(results)
    if len(judged) > 1:
        parts.append("targets\n" + table(judged))
    for failure in results.failures:
        parts.append(f"FAILED: {failure['measurement']} of {failure['peer']}: {failure['reason']}")
    return "\n\n".join(parts)


def present(results):
    """The peers that were measured, us first."""
    peers = {peer: None for figure in results.figures.values() for peer in figure.values}
    return sorted(peers, key=lambda peer: peer != OURS)


def rows(figures, peers):
    """A header and one row per figure: each peer's median and range, and our ratio to each."""
    others = [peer for peer in peers if peer != OURS]
    lines = [["", "unit", *peers, *(f"{OURS} / {peer}" for peer in others if OURS in peers)]]
    for figure in figures:
        label = figure.name if figure.size is None else f"{figure.name} @ {figure.size:,}"
        cells = [spread_text(figure.values.get(peer)) for peer in peers]
        ratios = [
            ratio_text(ratio(figure.values.get(OURS, {}), figure.values.get(peer, {})))
            for peer in others
            if OURS in peers
        ]
        lines.append([label, figure.unit, *cells, *ratios])
    return lines


def growth_rows(results, peers):
    lines = [["", *peers]]
    for (measurement, name), figures in results.series().items():
        cells = []
        for peer in peers:
            points = [(one.size, Spread(one.values[peer].values()).median) for one in figures if one.values.get(peer)]
            power = exponent(points)
            cells.append("" if power is None else f"{power:.2f}")
        if any(cells):
            lines.append([f"{measurement}/{name}", *cells])
    return lines


def verdict_rows(results):
    lines = [["", "measured", "limit", "unit", ""]]
    for one in verdicts(results):
        if one.reached:
            outcome = "reached"
        elif one.limit:
            outcome = f"missed: {one.measured / one.limit:.2f} of it"
        else:
            outcome = "missed"
        lines.append([one.target.about, number(one.measured), number(one.limit), one.unit, outcome])
    return lines


def table(lines):
    """Columns padded to their widest cell; the first left, the others right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = []
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        padded.append("  " + "  ".join(cells).rstrip())
    return "\n".join(padded)
