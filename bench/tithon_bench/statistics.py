"""Medians, spreads, ratios, growth."""

import math
from statistics import median


class Spread:
    """Median and range of some numbers."""

    def __init__(self, values):
        values = list(values)
        if not values:
            raise ValueError("nothing was measured")
        self.median = median(values)
        self.low = min(values)
        self.high = max(values)
        self.count = len(values)


def ratio(ours, theirs):
    """The spread of ours/theirs over the rounds that have both; None if there is none.

    Both are {round: value}. Each round's two values were measured next to each other, so what slowed
    the machine then slowed both.
    """
    ratios = [ours[at] / theirs[at] for at in sorted(ours.keys() & theirs.keys()) if theirs[at]]
    return Spread(ratios) if ratios else None


def exponent(points):
    """The k of the power law y = c·x^k that fits best, by least squares of the logarithms.

    0: the cost does not grow. 1: tenfold size, tenfold cost. None with fewer than two sizes.
    """
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in logs}) < 2:
        return None
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    over = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return over / sum((x - mean_x) ** 2 for x, _ in logs)
