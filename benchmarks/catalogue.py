"""What there is to measure: this package and its peers, each with the settings that are written at the top of its file.

A peer's file opens with inline script metadata (PEP 723): the requirements of its environment, and a table
[tool.benchmark] with the variants that are measured. So it can be read, and its environment made, without importing
it: it imports what only that environment has.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: What a variant takes part in unless it says otherwise. `crash` only when asked for: it takes minutes.
EVERYTHING = ("enqueue", "drain", "two", "latency", "sleep", "crash")
MEASURES = (*EVERYTHING, "busy", "portions", "persistence")
OURS = "ours"
#: Of a core, what `portions` leaves a worker process: two of them and a server have what they need on two cores.
PORTION = 0.45

BLOCK = re.compile(r"^# /// script$\n(?P<lines>(?:^#(?: .*)?$\n)+)^# ///$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run a queue."""

    name: str
    #: In words, for the table.
    settings: str
    #: Jobs at once of one worker process, at the drain.
    concurrency: int
    #: The same for the sleeps, where more makes sense.
    sleep_concurrency: int = 0
    #: Processes that one start of its worker makes of itself.
    processes: int = 1
    uvloop: bool = False
    #: How many no-op jobs are drained: about two seconds of them.
    jobs: int = 10_000
    #: Milliseconds between two sends to its idle worker, on average; more for what needs more than one for a job.
    pace: float = 4.0
    #: At most so many of each measurement: what isn't near the fastest needs fewer.
    rounds: int = 3
    #: Sends in turns with the others that say so: a judgement compares what is close.
    in_turns: bool = False
    measures: tuple[str, ...] = EVERYTHING
    #: What else the server promises to keep when it is measured again: "everysec", "always".
    persistence: tuple[str, ...] = ()
    #: Part of a run that names no variants.
    default: bool = True
    #: Which of the ways to send is meant, where the queue has several.
    sender: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def at_once(self, measure: str) -> int:
        """How many jobs its worker runs at once."""
        if measure == "sleep" and self.sleep_concurrency:
            return self.sleep_concurrency
        return min(self.concurrency, 10) if measure == "crash" else self.concurrency


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A queue with everything that its file says of it."""

    name: str
    #: To import in its own environment.
    module: str
    #: Lowest Python that it runs on.
    python: tuple[int, ...]
    requirements: tuple[str, ...]
    #: Distributions whose versions belong in the table.
    packages: tuple[str, ...]
    variants: dict[str, Variant]
    #: What follows kill -9 of a worker at its defaults, in a few words.
    after_kill: str
    #: There are settings at which every job comes back after it.
    survives: bool = False
    #: Its own call for many jobs; "" when it has none.
    bulk: str = ""
    #: Sends can overlap: it has an asyncio client.
    gather: bool = False
    on_redis: bool = True


def read(path: Path, *, module: str) -> Peer:
    """What the head of a peer's file says. ValueError with the file's name when it can't be read so."""
    found = BLOCK.search(path.read_text())
    if found is None:
        raise ValueError(f"{path}: expected inline script metadata (a comment from '# /// script' to '# ///')")
    text = "".join(line[2:] if line.startswith("# ") else line[1:] for line in found["lines"].splitlines(keepends=True))
    try:
        whole = tomllib.loads(text)
        table: dict[str, Any] = whole["tool"]["benchmark"]
        variants = {name: _variant(name, **options) for name, options in table.pop("variants").items()}
        minimum = tuple(int(number) for number in whole["requires-python"].removeprefix(">=").split("."))
        packages = tuple(table.pop("packages"))
        requirements = tuple(whole["dependencies"])
        return Peer(
            name=path.stem, module=module, python=minimum, requirements=requirements, packages=packages,
            variants=variants, **table,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error!r} in its inline script metadata") from error


def _variant(name: str, *, measures: Sequence[str] = EVERYTHING, **options: Any) -> Variant:
    unknown = set(measures) - set(MEASURES)
    if unknown:
        raise ValueError(f"variant {name} names {sorted(unknown)}; there are {', '.join(MEASURES)}")
    return Variant(name=name, measures=tuple(measures), persistence=tuple(options.pop("persistence", ())), **options)


def catalogue() -> dict[str, Peer]:
    """Everything by name: ours first, then the peers, in the order of the alphabet."""
    ours = read(HERE / "ours.py", module="benchmarks.ours")
    files = sorted(path for path in (HERE / "peers").glob("*.py") if path.name != "__init__.py")
    return {
        OURS: ours,
        **{path.stem: read(path, module=f"benchmarks.peers.{path.stem}") for path in files},
    }
