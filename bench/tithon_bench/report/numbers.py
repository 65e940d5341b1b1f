"""Numbers as people read them."""

from tithon_bench.statistics import Spread


def number(value):
    """Three significant digits, no exponent."""
    if value == 0:
        return "0"
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:,.0f}"
    if magnitude >= 10:
        return f"{value:.1f}"
    if magnitude >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}"


def spread_text(rounds):
    """Median, and the range where there were several rounds: `1.2 (1.1–1.4)`."""
    if not rounds:
        return ""
    spread = Spread(rounds.values())
    if spread.low == spread.high:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.low)}–{number(spread.high)})"


def ratio_text(spread):
    if spread is None:
        return ""
    if spread.count == 1 or spread.low == spread.high:
        return f"{number(spread.median)}×"
    return f"{number(spread.median)}× ({number(spread.low)}–{number(spread.high)})"
