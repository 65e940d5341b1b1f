"""What Tithon is to reach, and what became of it in a run.

Limits are ratios to a peer where one does the same thing, plain numbers where only we have the thing.
They say what is worth working at; no test fails by them.
"""

from dataclasses import dataclass

OURS, PYTHON, BARE = "tithon", "tithon-py", "jupyter"


@dataclass(frozen=True)
class Target:
    """`figure` of ours is to be at most `times` that of `peer`, plus `plus`; without a peer, at most `plus`."""

    about: str
    figure: str
    times: float = 0.0
    peer: str = ""
    plus: float = 0.0
    than: str = ""  # the peer's figure, if it is another

    def limit(self, results, at):
        """The limit in one round; None if the peer was not measured in it."""
        if not self.peer:
            return self.plus
        figure = results.figures.get(self.than or self.figure)
        theirs = figure and figure.values.get(self.peer, {}).get(at)
        return None if theirs is None else self.times * theirs + self.plus


TARGETS = [
    Target("flood: 1/5 of a bare kernel's time", "flood-unheard/journaled", 0.2, BARE),
    Target("flood: nothing lost", "flood-unheard/lost"),
    Target("flood: worker CPU per message ≤ 10 µs", "flood-unheard/cpu worker per message", plus=10),
    Target("the same with a client", "flood-lines/cpu worker per message", plus=10),
    Target("round trip: 1 ms over jupyter_client's", "round-trip/median", 1.0, BARE, 1.0),
    Target("round trip: below the Python program's", "round-trip/median", 1.0, PYTHON),
    Target("`run -c pass`: 10 ms over that", "run-command/median", 1.0, BARE, 10.0, "round-trip/median"),
    Target("attach after updates ≤ 1 ms", "attach-updates/attach", plus=1),
    Target("attach after updates < 2 kB", "attach-updates/bytes", plus=2_000),
    Target("attach to 1,000 cells ≤ 5 ms", "attach-cells/attach@1000", plus=5),
    Target("resume over 50,000 rows ≤ 0.15 s", "resume-rows/resume@50000", plus=0.15),
    Target("disk per small stream message ≤ 116 B", "flood-alternating/disk per row", plus=116),
    Target("history of 1,000 cells after a restart ≤ 20 ms", "restart-history/from listening", plus=20),
    Target("idle worker ≤ 2 MiB private", "idle/private memory worker, 1 session", plus=2),
    Target("many idle workers ≤ 3 MiB each", "idle/memory per worker, its share", plus=3),
    Target("supervisor ≤ 4 MiB + 20 kB a session", "idle/private memory supervisor, all sessions", plus=4.4),
    Target("restart with 100 sessions: listed in 300 ms", "restart/all listed@100", plus=300),
    Target("restart: no client loses its connection", "restart-stream/connections lost"),
    Target("kill -9 at random: nothing lost or doubled", "kill-serving/lines lost or doubled"),
    Target("200 subscribers: none that reads is dropped", "subscribers/readers dropped@200"),
    Target("200 subscribers: none that reads misses anything", "subscribers/events missing@200"),
]


@dataclass(frozen=True)
class Verdict:
    target: Target
    measured: float  # median
    limit: float  # median
    unit: str

    @property
    def reached(self):
        return self.measured <= self.limit


def verdicts(results):
    """What became of each target that was measured. The medians of ours and of the limit over the same rounds."""
    from tithon_bench.statistics import Spread

    judged = []
    for target in TARGETS:
        figure = results.figures.get(target.figure)
        if figure is None:
            continue
        pairs = [(value, target.limit(results, at)) for at, value in figure.values.get(OURS, {}).items()]
        pairs = [(value, limit) for value, limit in pairs if limit is not None]
        if pairs:
            measured, limit = (Spread(side).median for side in zip(*pairs))
            judged.append(Verdict(target, measured, limit, figure.unit))
    return judged
