"""How large everything is that is measured. What is smaller than the default says so in its figures' sizes."""

import dataclasses

from tithon_bench.environments import CannotRun


@dataclasses.dataclass(frozen=True)
class Scale:
    lines: int = 50_000  # short lines printed in a flood
    messages: int = 10_000  # floods of what costs a kernel more than a print
    images: int = 1_000
    rows: tuple = (5_000, 50_000)  # journal rows a client resumes over
    cells: tuple = (100, 1_000, 10_000)  # finished cells a client attaches to
    history_mib: tuple = (10, 100, 1_000)  # size of a history that is attached to
    round_trips: int = 200
    processes: int = 20  # whole processes timed one after the other
    sessions: tuple = (1, 20, 100)
    subscribers: tuple = (1, 10, 200)
    subscriber_lines: int = 5_000
    kills: int = 10
    idle_workers: int = 20
    array_numbers: int = 62_500_000  # 500 MB
    table_rows: int = 1_000_000
    dicts: int = 1_000_000
    states: int = 200


FULL = Scale()
QUICK = Scale(
    lines=1_000,
    messages=200,
    images=10,
    rows=(100, 1_000),
    cells=(5, 20),
    history_mib=(1, 2),
    round_trips=10,
    processes=2,
    sessions=(1, 2),
    subscribers=(1, 4),
    subscriber_lines=200,
    kills=2,
    idle_workers=2,
    array_numbers=100_000,
    table_rows=1_000,
    dicts=1_000,
    states=5,
)


def with_sizes(scale, overrides):
    """`NAME=N` or `NAME=N,N…` put into a scale."""
    for override in overrides:
        name, _, text = override.partition("=")
        if name not in (field.name for field in dataclasses.fields(scale)):
            raise CannotRun(f"no size {name!r}; see --list")
        try:
            numbers = tuple(int(number) for number in text.split(","))
        except ValueError:
            raise CannotRun(f"--size {override}: whole numbers are wanted") from None
        if min(numbers) < 1:
            raise CannotRun(f"--size {override}: sizes are at least 1")
        scale = dataclasses.replace(scale, **{name: numbers if isinstance(getattr(scale, name), tuple) else numbers[0]})
    return scale
