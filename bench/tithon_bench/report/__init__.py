"""What a run says: on the terminal, as JSON, as a page."""

import dataclasses

from tithon_bench.report import page, terminal
from tithon_bench.targets import verdicts

__all__ = ["as_json", "page", "terminal"]


def as_json(results, about, scale, measurements):
    """Everything, the single values included."""
    return {
        "about": about,
        "scale": dataclasses.asdict(scale),
        "measurements": measurements,
        "figures": [
            {
                "measurement": figure.measurement,
                "name": figure.name,
                "size": figure.size,
                "unit": figure.unit,
                "values": {peer: list(rounds.values()) for peer, rounds in figure.values.items()},
            }
            for figure in results.figures.values()
        ],
        "targets": [
            {
                "about": one.target.about,
                "figure": one.target.figure,
                "unit": one.unit,
                "measured": one.measured,
                "limit": one.limit,
                "reached": one.reached,
            }
            for one in verdicts(results)
        ],
        "failures": results.failures,
    }
