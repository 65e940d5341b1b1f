"""The peers' own environments, made once from pinned requirements, and the build of Tithon."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = REPOSITORY / "bench" / "requirements"
JUPYTER = "jupyter"
PYTHON_TITHON = "tithon-0.2.5"
STATES = "states"


class CannotRun(Exception):
    """Something a measurement needs is missing, in words for the person who must mend it."""


def target():
    """The build's directory, wherever cargo was told to put it."""
    return Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))


def environment(name):
    """The interpreter of an environment; makes it if it is not there, or is of other requirements."""
    wanted = (REQUIREMENTS / f"{name}.txt").read_text()
    place = target() / "bench" / "envs" / name
    interpreter = place / "bin" / "python"
    receipt = place / "made-of.txt"
    if receipt.is_file() and receipt.read_text() == wanted:
        return interpreter
    say(f"making the environment {place} (once)")
    shutil.rmtree(place, ignore_errors=True)
    run([sys.executable, "-m", "venv", place], f"make the environment {name}")
    install = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"]
    run([*install, REQUIREMENTS / f"{name}.txt"], f"install {name} from the package registry")
    receipt.write_text(wanted)
    return interpreter


def build():
    """The release binary of this repository."""
    run(["cargo", "build", "--release", "--locked", "-p", "tithon"], "build Tithon", cwd=REPOSITORY)
    return target() / "release" / "tithon"


def run(command, what, **options):
    try:
        ended = subprocess.run([str(word) for word in command], **options)
    except OSError as error:
        raise CannotRun(f"cannot {what}: {error}") from error
    if ended.returncode != 0:
        raise CannotRun(f"cannot {what}: {command[0]} ended with {ended.returncode}")


def say(words):
    print(words, file=sys.stderr, flush=True)
