"""`make bench`, or `python -m benchmarks --help`: measure this package beside its peers and write what came out."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import report
from .bench import Failed, bench
from .catalogue import MEASURES, OURS, Peer, Variant, catalogue
from .cells import IN_TURNS, MEASUREMENTS
from .environments import ROOT, CannotInstall, commit, copy_code, environment, newest_python, version_of, versions
from .measure import CannotHold, interleaved
from .results import Key, Results, machine

RESULTS = ROOT / "docs" / "performance.json"
#: Rounds of each measurement at most, more of what is compared most.
ROUNDS = {
    "enqueue": 5,
    "drain": 3,
    "two": 2,
    "busy": 2,
    "portions": 3,
    "latency": 2,
    "sleep": 1,
    "crash": 1,
    "persistence": 2,
}
#: What a run without --measure does. `crash` of peers takes minutes each, so it is asked for with --crash.
USUAL = ("enqueue", "drain", "two", "busy", "portions", "latency", "sleep", "persistence", "crash")


@dataclass(frozen=True, slots=True)
class Cell:
    """One variant to measure in one way."""

    peer: Peer
    variant: Variant
    measure: str
    persistence: str

    @property
    def key(self) -> Key:
        return Key(self.peer.name, self.variant.name, self.measure, self.persistence)

    def __str__(self) -> str:
        kept = "" if self.persistence == "off" else f" {self.persistence}"
        return f"{self.peer.name} {self.variant.name}: {self.measure}{kept}"


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="PEER[:VARIANT],...", help="these, instead of everything; merged into the results"
    )
    parser.add_argument("--measure", default="", metavar="NAME,...", help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--rounds", type=int, help="of every measurement (3 of sending and draining, fewer of others)")
    parser.add_argument("--crash", action="store_true", help="kill the peers' workers, too: minutes for each of them")
    parser.add_argument("--variants", action="store_true", help="every variant, not only a peer's best")
    parser.add_argument("--quick", action="store_true", help="a tenth, once: whether it works; writes no report")
    parser.add_argument("--python", type=Path, default=None, help="for all environments (the newest here)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="another JSON file: docs/ is left as it is")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the report from the JSON file")
    parser.add_argument("--list", action="store_true", help="what there is to measure")
    options = parser.parse_args(words)
    names = set(options.measure.split(",")) - {""} - set(MEASURES)
    if names:
        parser.error(f"--measure: no measurement is named {', '.join(sorted(names))}; there are {', '.join(MEASURES)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds: at least 1")
    return options


def chosen(peers: dict[str, Peer], options: argparse.Namespace) -> list[Cell]:
    """The cells that the arguments ask for. SystemExit when they name what there isn't."""
    measures = [name for name in options.measure.split(",") if name] or list(USUAL)
    wanted = [name for name in options.only.split(",") if name]
    cells = [
        cell
        for peer in peers.values()
        for variant in peer.variants.values()
        for cell in _cells_of(peer, variant, measures)
        if _is_wanted(cell, wanted, options)
    ]
    for name in wanted:
        if not any(name in (cell.peer.name, f"{cell.peer.name}:{cell.variant.name}") for cell in cells):
            raise SystemExit(f"--only: nothing to measure is named {name!r}; see --list")
    return cells


def _cells_of(peer: Peer, variant: Variant, measures: Iterable[str]) -> Iterable[Cell]:
    for measure in measures:
        if measure == "persistence":
            yield from (Cell(peer, variant, measure, kept) for kept in variant.persistence)
        elif measure in variant.measures:
            yield Cell(peer, variant, measure, "off")


def _is_wanted(cell: Cell, wanted: list[str], options: argparse.Namespace) -> bool:
    if f"{cell.peer.name}:{cell.variant.name}" in wanted:
        return True
    if wanted and cell.peer.name not in wanted:
        return False
    if cell.measure == "crash" and cell.peer.name != OURS:
        return bool(options.crash)
    return cell.variant.default or options.variants


class Run:
    """Environments, then every cell as often as it is due."""

    def __init__(self, cells: list[Cell], results: Results, options: argparse.Namespace, code: Path) -> None:
        self.cells = cells
        self.code = code
        self.results = results
        self.options = options
        self.failed: list[str] = []
        self._interpreters: dict[str, Path] = {}
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.0f} s  {text}", flush=True)

    def install(self, python: Path) -> None:
        """Make the environments. What can't be installed is noted, and left out."""
        for peer in {cell.peer.name: cell.peer for cell in self.cells}.values():
            try:
                self._interpreters[peer.name] = environment(peer, python)
                self.results.versions[peer.name] = versions(peer, self._interpreters[peer.name])
            except CannotInstall as error:
                self.say(f"{peer.name}: left out: {error}")
                self._note(peer.name, str(error))
                for cell in self.cells:
                    if cell.peer is peer:
                        self.results.fail(cell.key, f"not installed: {error}")
            else:
                told = ", ".join(f"{name} {version}" for name, version in self.results.versions[peer.name].items())
                self.say(f"{peer.name}: {told}")
        self.cells = [cell for cell in self.cells if cell.peer.name in self._interpreters]

    def measure(self) -> None:
        """What is due, in order; what was measured until then is kept when somebody ends it."""
        due = list(self._due())
        try:
            for place, (number, cells) in enumerate(due, 1):
                self._one(cells, f"{place}/{len(due)}", number)
        finally:
            self.results.save()

    def _due(self) -> Iterator[tuple[int, list[Cell]]]:
        """All cells of one kind next to each other in time, each round in another order; together what takes turns."""
        for measure in USUAL:
            of_it = [cell for cell in self.cells if cell.measure == measure]
            compared = [cell for cell in of_it if measure in IN_TURNS and cell.variant.in_turns]
            apart = [[cell] for cell in of_it if cell not in compared]
            if compared:
                apart.append(compared)
            rounds = max((self._rounds(cells[0]) for cells in apart), default=0)
            for number, cells in interleaved(rounds, apart):
                if number <= self._rounds(cells[0]):
                    yield number, cells

    def _rounds(self, cell: Cell) -> int:
        """As many as were asked for; else what a whole run has the time for."""
        if self.options.quick or self.options.rounds:
            return 1 if self.options.quick else int(self.options.rounds)
        if cell.measure not in ("enqueue", "drain") and cell.peer.name not in (OURS, "raw"):
            return 1
        return min(cell.variant.rounds, ROUNDS[cell.measure])

    def _one(self, cells: list[Cell], place: str, number: int) -> None:
        try:
            with ExitStack() as stack:
                benches = [
                    stack.enter_context(
                        bench(
                            cell.peer, cell.variant, self._interpreters[cell.peer.name], self.code, cell.persistence,
                            quick=self.options.quick,
                        )
                    )
                    for cell in cells
                ]  # fmt: skip
                measure = cells[0].measure
                told = IN_TURNS[measure](benches) if measure in IN_TURNS else [MEASUREMENTS[measure](*benches)]
        except CannotHold as error:  # no fault of what is measured
            for cell in cells:
                self.results.fail(cell.key, str(error))
                self.say(f"{place} {cell} ({number}): LEFT OUT: {error}")
        except Exception as error:  # noqa: BLE001 - a peer that fails must not end the others' run
            reason = str(error) if isinstance(error, Failed) else repr(error)
            for cell in cells:
                self.results.fail(cell.key, reason)
                self._note(str(cell), reason)
                self.say(f"{place} {cell} ({number}): FAILED: {reason}")
        else:
            for cell, values in zip(cells, told, strict=True):
                self.results.add(cell.key, values)
                figures = ", ".join(f"{name} {value:,.4g}" for name, value in values.items())
                self.say(f"{place} {cell} ({number}): {figures}")

    def _note(self, what: str, why: str) -> None:
        self.failed.append(f"{what}: {why}")


def show(peers: dict[str, Peer]) -> None:
    for peer in peers.values():
        for variant in peer.variants.values():
            rare = "" if variant.default else "; only with --variants"
            print(f"{peer.name}:{variant.name}  {variant.settings} [{', '.join(variant.measures)}{rare}]")


def main() -> int:
    """Exit code 1 when a measurement of this package failed, not when a peer's did."""
    options, peers = arguments(), catalogue()
    # Ended in good order it ends its workers with everything that they started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.list:
        show(peers)
        return 0
    if options.report:
        report.write(Results.load(options.results), peers)
        return 0
    python = options.python or newest_python()
    results = Results.load(options.results) if options.only or options.measure else Results(options.results)
    if options.quick:
        results = Results(None)
    results.begin({**machine(version_of(python)), "commit": commit()})
    cells = chosen(peers, options)
    with tempfile.TemporaryDirectory(prefix="bench-code-") as code:
        copy_code(Path(code))
        run = Run(cells, results, options, Path(code))
        run.install(python)
        run.measure()
    if not options.quick and options.results == RESULTS:
        report.write(Results.load(options.results), peers)  # what is in the file is rounded
    for line in run.failed:
        print(f"FAILED  {line}", flush=True)
    return 1 if any(line.startswith(OURS) for line in run.failed) else 0


if __name__ == "__main__":
    sys.exit(main())
