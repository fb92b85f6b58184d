"""``runworker``: Channels' command, with a worker that loses nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Coroutine
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from channels.management.commands.runworker import Command as ChannelsCommand
from django.core.management import CommandError, CommandParser

from retrying.conf import get_settings
from retrying.exceptions import RetryingError
from retrying.group import parse
from retrying.joblayer import JobLayer
from retrying.layers import get_layer
from retrying.logs import install
from retrying.management.routes import routes_for
from retrying.probes import Probes
from retrying.processes import AGAIN, SUPERVISED, Supervisor, watch_code
from retrying.routes import Route, project_application
from retrying.schedule.discovery import declared
from retrying.schedule.scheduler import Scheduler
from retrying.stats.watch import Watch
from retrying.worker import STOPPED, Worker

logger = logging.getLogger("retrying.worker")

#: In the environment of supervised workers whose supervisor answers probes: the --heartbeat-file that wasn't given.
HEARTBEAT = "RETRYING_HEARTBEAT"


class Command(ChannelsCommand):
    help = (
        "Run jobs of the given channels until told to stop (SIGTERM, Ctrl-C). "
        "Several channels: 'a b' apart; 'a,b' b only while a is empty; 'a:3 b:1' sharing, three of a to one of b."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--concurrency", type=_positive, metavar="N", help="Jobs at a time of each channel or group (setting; 1)."
        )
        parser.add_argument("--processes", type=_positive, metavar="N", help="Worker processes, supervised.")
        parser.add_argument(
            "--shutdown-timeout", type=float, metavar="SECONDS", help="What running jobs get to end (setting; 25)."
        )
        parser.add_argument(
            "--heartbeat-file", type=Path, metavar="FILE",
            help="Touched each second; FILE.ready exists while every channel is consumed. With --processes: FILE.1 ...",
        )  # fmt: skip
        parser.add_argument(
            "--health-port", type=_positive, metavar="PORT", help="Answers /healthz, /readyz and /metrics there."
        )
        parser.add_argument(
            "--health-host", default="127.0.0.1", metavar="HOST", help="To answer at; 0.0.0.0: everywhere (127.0.0.1)."
        )
        parser.add_argument("--reload", action="store_true", help="Start anew when the code changes; for development.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            layer = get_layer(options["layer"])
            consumptions = parse(options["channels"])
            names = [name for consumption in consumptions for name in consumption.channels]
            routes = routes_for(names, options["layer"])
        except Exception as error:
            raise CommandError(str(error)) from error
        install()
        if options["shutdown_timeout"] is None:
            options["shutdown_timeout"] = get_settings().SHUTDOWN_TIMEOUT_SECONDS
        supervised = SUPERVISED in os.environ
        options["heartbeat_file"] = options["heartbeat_file"] or _inherited()
        if options["health_port"] and not supervised:
            _answer_probes(options)
        if (options["processes"] or options["reload"]) and not supervised:
            supervisor = Supervisor(options["processes"] or 1, shutdown_timeout=options["shutdown_timeout"])
            sys.exit(asyncio.run(supervisor.run()))
        if options["heartbeat_file"] and options["processes"]:
            options["heartbeat_file"] = Path(f"{options['heartbeat_file']}.{os.environ[SUPERVISED]}")
        channels = {str(consumption): options["concurrency"] for consumption in consumptions}
        try:
            _runner()(self._work(layer, channels, routes, options))
        except RetryingError as error:
            raise CommandError(str(error)) from error

    @staticmethod
    async def _work(
        layer: JobLayer, channels: dict[str, int | None], routes: dict[str, Route], options: dict[str, Any]
    ) -> None:
        consumed = {name for words in channels for one in parse(words.split()) for name in one.channels}
        schedules = [one for one in declared(using=options["layer"]).values() if one.channel in consumed]
        worker = Worker(
            project_application(),
            channels,
            layer,
            routes=routes,
            shutdown_timeout=options["shutdown_timeout"],
            heartbeat=options["heartbeat_file"],
            beside=[Scheduler(schedules, layer.store).run, Watch(using=options["layer"]).run],
        )
        if options["reload"]:
            loop = asyncio.get_running_loop()

            def changed(file: Path) -> None:
                logger.info("%s changed: starting anew", file)
                worker.recycled = True
                loop.call_soon_threadsafe(worker.stop)

            watch_code(changed)
        status = await worker.run_with_signals()
        if worker.recycled and status == STOPPED and SUPERVISED in os.environ:
            status = AGAIN
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        # Not a return: the thread of a sync handler that was given back would hold the process until it is done.
        os._exit(status)


def _inherited() -> Path | None:
    """The heartbeat that the supervisor's port looks at."""
    return Path(os.environ[HEARTBEAT]) if HEARTBEAT in os.environ else None


def _answer_probes(options: dict[str, Any]) -> None:
    if options["heartbeat_file"] is None:
        options["heartbeat_file"] = Path(mkdtemp(prefix="runworker-")) / "heartbeat"
        os.environ[HEARTBEAT] = str(options["heartbeat_file"])
    base, count = options["heartbeat_file"], options["processes"]
    files = [Path(f"{base}.{number}") for number in range(1, count + 1)] if count else [base]
    host, port = options["health_host"], options["health_port"]
    try:
        probes = Probes(host, port, files, using=options["layer"])
    except OSError as error:
        raise CommandError(f"--health-port: {host}:{port} can't be had: {error}") from error
    probes.start()
    logger.info("health and metrics at http://%s:%d", host, probes.port)


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    """uvloop's ``run`` where it is installed, else asyncio's."""
    try:
        return import_module("uvloop").run  # type: ignore[no-any-return]
    except ImportError:
        return asyncio.run


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)
