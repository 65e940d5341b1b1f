"""A log-log plot as SVG, without a library: growth is what it is to show."""

import math
from html import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 300, 62, 14, 34, 40
COLOURS = {"tithon": "#0a7d4b", "tithon-py": "#c4541b", "jupyter": "#3c63b8", "snapshot-kernel": "#8a5a9e"}


def growth(title, unit, lines):
    """`lines`: {label: (peer, [(size, median, low, high)])}. Sizes and values must be positive."""
    points = [point for _, series in lines.values() for point in series]
    x_low, x_high = _decades([point[0] for point in points])
    y_low, y_high = _decades([value for point in points for value in point[1:] if value > 0])

    def x(size):
        return _LEFT + (math.log10(size) - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)

    def y(value):
        return _HEIGHT - _BOTTOM - (math.log10(value) - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    parts.append(f'<text x="{_LEFT}" y="18" class="title">{escape(title)}, {escape(unit)}</text>')
    for power in range(x_low, x_high + 1):
        at = x(10.0**power)
        parts.append(f'<path d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" class="grid"/>')
        parts.append(f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{_power(power)}</text>')
    for power in range(y_low, y_high + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_power(power)}</text>')
    for row, (label, (peer, series)) in enumerate(lines.items()):
        colour = COLOURS.get(peer, "#666")
        path = " ".join(f"{'L' if i else 'M'}{x(p[0]):.1f} {y(p[1]):.1f}" for i, p in enumerate(series))
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for size, median, low, high in series:
            parts.append(f'<circle cx="{x(size):.1f}" cy="{y(median):.1f}" r="3" fill="{colour}"/>')
            if 0 < low < high:
                parts.append(f'<path d="M{x(size):.1f} {y(low):.1f}V{y(high):.1f}" stroke="{colour}"/>')
        parts.append(f'<text x="{_LEFT + 8}" y="{_TOP + 16 + 15 * row}" fill="{colour}">{escape(label)}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _decades(values):
    """The powers of ten around some values, at least one decade."""
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _power(power):
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:.{-power}f}"
