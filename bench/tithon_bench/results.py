"""What was measured: numbers by figure, peer and round."""

from collections import defaultdict


class Figure:
    """One kind of number, for each peer and round. `size` is what it grows with, if it is part of a series."""

    def __init__(self, measurement, name, unit, size=None):
        self.measurement = measurement
        self.name = name
        self.unit = unit
        self.size = size
        self.values = defaultdict(dict)  # peer -> {round: value}

    @property
    def key(self):
        at = "" if self.size is None else f"@{self.size}"
        return f"{self.measurement}/{self.name}{at}"


class Results:
    """All figures of a run, in the order they were first measured, and what failed."""

    def __init__(self):
        self.figures = {}
        self.failures = []

    def recorder(self, measurement, peer, at):
        """What a measurement notes its numbers with."""

        def record(name, value, unit, size=None):
            figure = Figure(measurement, name, unit, size)
            known = self.figures.setdefault(figure.key, figure)
            if known.unit != unit:
                raise ValueError(f"{figure.key} is measured in {known.unit} and in {unit}")
            known.values[peer][at] = value

        return record

    def fail(self, measurement, peer, reason):
        self.failures.append({"measurement": measurement, "peer": peer, "reason": reason})

    def series(self):
        """Figures that were measured at several sizes: {(measurement, name): [figures by size]}."""
        groups = defaultdict(list)
        for figure in self.figures.values():
            if figure.size is not None:
                groups[figure.measurement, figure.name].append(figure)
        return {
            key: sorted(figures, key=lambda figure: figure.size)
            for key, figures in groups.items()
            if len(figures) > 1
        }
