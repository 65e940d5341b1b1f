"""The command: what to measure, whom, how often."""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
import traceback
from datetime import datetime
from pathlib import Path

from tithon_bench import environments, machine
from tithon_bench.environments import CannotRun, say
from tithon_bench.results import Results


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="bench/run.py",
        description="Measures Tithon beside the Python program, bare Jupyter and snapshot-kernel, in turn, in the same run.",
    )
    parser.add_argument("names", nargs="*", metavar="MEASUREMENT", help="only these (a prefix will do; default: all)")
    parser.add_argument("--list", action="store_true", help="say what can be measured, and leave")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes and one round: does everything run?")
    parser.add_argument("--peers", default=None, help="comma-separated, of tithon,tithon-py,jupyter,snapshot-kernel (default: all)")
    parser.add_argument("--size", action="append", default=[], metavar="NAME=N[,N…]", help="override a size; see --list")
    parser.add_argument("--tithon", type=Path, help="the binary to measure (default: build this repository's, release)")
    parser.add_argument("--python", type=Path, help="kernel's Python with ipykernel and jupyter_client (default: made)")
    parser.add_argument("--out", type=Path, help="where results go (default: target/bench/results/TIME)")
    return parser.parse_args(arguments)


def main():
    arguments = parse(sys.argv[1:])
    try:
        python = (arguments.python or environments.environment(environments.JUPYTER)).absolute()
        if Path(sys.prefix).resolve() != python.parent.parent.resolve():
            # Go on where jupyter_client is.
            script = Path(sys.argv[0]).resolve()
            os.execv(python, [str(python), str(script), *sys.argv[1:], "--python", str(python)])
        return measure(arguments, python)
    except CannotRun as reason:
        say(f"bench: {reason}")
        return 2


def measure(arguments, python):
    from tithon_bench import measurements, peers, report
    from tithon_bench.scale import FULL, QUICK, with_sizes

    known = measurements.known()
    if arguments.list:
        print(report.terminal.catalogue(known, FULL))
        return 0
    chosen = choose(known, arguments.names)
    scale = with_sizes(QUICK if arguments.quick else FULL, arguments.size)
    rounds = 1 if arguments.quick else arguments.rounds
    if rounds < 1:
        raise CannotRun("--rounds must be at least 1")
    names = (arguments.peers or ",".join(peers.NAMES)).split(",")
    if arguments.tithon and not os.access(arguments.tithon, os.X_OK):
        raise CannotRun(f"{arguments.tithon} is no program")
    for name in names:
        if name not in peers.NAMES:
            raise CannotRun(f"no peer {name!r}; there are {', '.join(peers.NAMES)}")
    binary = arguments.tithon and arguments.tithon.absolute()
    recipes = {name: peers.recipe(name, binary, python) for name in names}

    about = machine.describe() | {"load before": machine.load(), "rounds": str(rounds)}
    results = Results()
    # Whoever ends the run also ends what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun = time.monotonic()
    try:
        for name in chosen:
            run_one(known[name], recipes, scale, rounds, results)
    except KeyboardInterrupt:
        results.fail(name, "everyone", "interrupted: what came before is reported, what comes after was not measured")
    about |= {"load after": machine.load(), "took": f"{time.monotonic() - begun:.0f} s"}

    out = arguments.out or environments.target() / "bench" / "results" / datetime.now().strftime("%Y%m%d-%H%M%S")
    out.mkdir(parents=True, exist_ok=True)
    about_all = {name: known[name].about for name in chosen}
    (out / "results.json").write_text(json.dumps(report.as_json(results, about, scale, about_all), indent=1) + "\n")
    (out / "report.html").write_text(report.page.render(results, about, scale, about_all))
    print(report.terminal.render(results, about, about_all))
    say(f"written: {out}/results.json, {out}/report.html")
    return 1 if results.failures else 0


def choose(known, prefixes):
    chosen = [name for name in known if not prefixes or any(name.startswith(prefix) for prefix in prefixes)]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in known):
            raise CannotRun(f"no measurement {prefix!r}; there are {', '.join(known)}")
    return chosen


def run_one(measurement, recipes, scale, rounds, results):
    """All rounds of one measurement. In each round each peer has its turn, another one first each time."""
    peers = [name for name in recipes if measurement.fits(name)]
    rounds = min(rounds, measurement.rounds_max or rounds)
    with contextlib.ExitStack() as lasting:
        stages = {}
        for at in range(rounds):
            turn = at % max(1, len(peers))
            for name in peers[turn:] + peers[:turn]:
                say(f"{measurement.name} · round {at + 1}/{rounds} · {name}")
                try:
                    with contextlib.ExitStack() as fresh:
                        if not measurement.lasting or name not in stages:
                            held_by = lasting if measurement.lasting else fresh
                            peer = held_by.enter_context(recipes[name]())
                            stages[name] = measurement.prepare(peer, scale)
                        measurement.measure(stages[name], scale, results.recorder(measurement.name, name, at))
                except Exception as error:  # noqa: BLE001 - whatever a peer does, the others are still measured
                    traceback.print_exc()
                    results.fail(measurement.name, name, f"round {at + 1}: {type(error).__name__}: {error}")
                    stages.pop(name, None)
