"""The worker behind ``runworker``: pulls jobs into a pool of application instances."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from . import reconnect
from .conf import Settings, get_settings
from .group import Consumption, Group, parse
from .hand import TICK, OnEnd
from .heartbeat import Heartbeat, memory_mib
from .joblayer import JobLayer
from .lane import Lane
from .presence import Presence
from .processes import SUPERVISED
from .renewal import Renewal
from .routes import ApplicationRoute, Route
from .threads import Threads, spare_looks

logger = logging.getLogger("retrying.worker")

#: Ticks between two heartbeats, and looks at the worker's own size.
TICKS_PER_LOOK = 5
#: Seconds that the renewal thread gets to end; it may be waiting for a server that doesn't answer.
JOIN_SECONDS = 2.0
#: Exit statuses: all ended or given back; told twice to stop; a part of the worker failed.
STOPPED, HURRIED, FAILED = 0, 1, 1


#: Runs beside a worker; see Worker.
Beside = Callable[[Callable[[str], None]], Coroutine[Any, Any, None]]


def worker_id() -> str:
    """``host:pid:random``."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class Worker:
    """Consumes channels until told to stop.

    ``channels``: what to consume, as runworker takes it (``a``, ``a,b``, ``a:3 b:1``) -> jobs at a time, None = the
    setting of the (first) channel. ``routes``: of channels that the application doesn't run. ``heartbeat``: file that
    is touched every second while the event loop lives; beside it stands a file of the same name and ``.ready`` while
    every channel is being consumed. ``on_end``: sees the end of every attempt, once the store has answered, and decides
    nothing. ``beside``: what else runs until the worker is told to stop, given a function that has it look for jobs
    of a channel; when one of these fails, the worker ends.
    Raises BadConsumption, and NoRoute for a channel that the routers have no application for.
    """

    def __init__(
        self,
        application: Any,
        channels: Mapping[str, int | None],
        layer: JobLayer,
        *,
        routes: Mapping[str, Route] | None = None,
        shutdown_timeout: float | None = None,
        heartbeat: Path | None = None,
        on_end: OnEnd | None = None,
        beside: Sequence[Beside] = (),
        settings: Settings | None = None,
    ) -> None:
        self.id = worker_id()
        self.layer = layer
        self.settings = settings or get_settings()
        self.shutdown_timeout = self.settings.SHUTDOWN_TIMEOUT_SECONDS if shutdown_timeout is None else shutdown_timeout
        self._consumptions = [
            (consumption, concurrency)
            for words, concurrency in channels.items()
            for consumption in parse(words.split())
        ]
        self._routes: dict[str, Route] = {
            name: (routes or {}).get(name) or ApplicationRoute(application, name, self.settings.channel(name).policy)
            for consumption, _ in self._consumptions
            for name in consumption.channels
        }
        self._threads = Threads()
        self._on_end = on_end
        self._beside = beside
        self._heartbeat = Heartbeat(heartbeat) if heartbeat is not None else None
        #: Under a supervisor: end when it is gone. See processes.py.
        self._parent = os.getppid() if SUPERVISED in os.environ else None
        #: The worker ended itself to be started anew (recycling, changed code).
        self.recycled = False
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failed = False
        self._presence = Presence(self.id, stop=self._end)

    def stop(self) -> None:
        """Take no more jobs and end; called again: give running jobs back at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> int:
        """Work until stopped. Returns the exit status."""
        loop = asyncio.get_running_loop()
        spare_looks()
        lanes = [
            lane for consumption, concurrency in self._consumptions for lane in self._lanes(consumption, concurrency)
        ]
        self.layer.store.connections.blocking = len(lanes)
        renewal = Renewal(lanes, loop, self.settings)
        self._presence.lanes = lanes
        warning = asyncio.create_task(self._warn_of_eviction())
        ticking = asyncio.create_task(self._tick(lanes))
        beside = [asyncio.create_task(self._run_beside(work, lanes)) for work in self._beside]
        for lane in lanes:
            lane.start()
        renewal.start()
        logger.info("worker %s is ready", self.id)
        try:
            await self._stop.wait()
            await reconnect.end(beside)
            logger.info(
                "worker %s stops: no new jobs, up to %s s for %d running ones",
                self.id, self.shutdown_timeout, sum(len(lane.hand.attempts) for lane in lanes),
            )  # fmt: skip
            await asyncio.gather(*(lane.drain(self.shutdown_timeout, self._hurry) for lane in lanes))
        finally:
            renewal.stop()
            await reconnect.end([ticking, warning, *beside])
            if self._heartbeat is not None:
                self._heartbeat.end()
            for lane in lanes:
                await lane.stop()
            await self._threads.close()
            await asyncio.to_thread(renewal.join, JOIN_SECONDS)
        logger.info("worker %s stopped", self.id)
        if self._failed:
            return FAILED
        return HURRIED if self._hurry.is_set() else STOPPED

    async def run_with_signals(self) -> int:
        """``run``, stopped by SIGTERM and SIGINT; a second signal gives running jobs back at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        return await self.run()

    def _lanes(self, consumption: Consumption, concurrency: int | None) -> list[Lane]:
        size = concurrency or self.settings.channel(consumption.channels[0]).concurrency
        group = Group(size, consumption.weights)
        logger.info(
            "worker %s consumes %s: %d at a time (--concurrency), lease %s s",
            self.id, consumption, size, self.settings.LEASE_SECONDS,
        )  # fmt: skip
        for channel in consumption.channels:
            if remark := self._routes[channel].remark:
                logger.info(remark)
        return [
            Lane(
                self._routes[channel],
                self.layer,
                self.id,
                settings=self.settings,
                channel_settings=self.settings.channel(channel),
                group=group,
                threads=self._threads,
                presence=self._presence,
                on_end=self._on_end,
                on_failure=self._fail,
            )
            for channel in consumption.channels
        ]

    async def _run_beside(self, work: Beside, lanes: list[Lane]) -> None:
        def look(channel: str) -> None:
            for lane in lanes:
                if lane.channel == channel:
                    lane.intake.look()

        try:
            await work(look)
        except Exception:
            logger.critical("what runs beside the worker failed, the worker ends", exc_info=True)
            self._fail()

    def _fail(self) -> None:
        self._failed = True
        self.stop()

    async def _tick(self, lanes: list[Lane]) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK)
            for lane in lanes:
                lane.hand.tick()
            ticks += 1
            if ticks % TICKS_PER_LOOK == 0:
                if self._heartbeat is not None:
                    self._heartbeat.beat(ready=all(lane.consuming for lane in lanes))
                self._look_at_itself(sum(lane.hand.done for lane in lanes))

    def _look_at_itself(self, done: int) -> None:
        if self._stop.is_set():
            return
        reason = ""
        if 0 < self.settings.RECYCLE_AFTER_JOBS <= done:
            reason = f"it has run {done} jobs (RECYCLE_AFTER_JOBS)"
        elif self.settings.RECYCLE_ABOVE_MIB and (used := memory_mib()) > self.settings.RECYCLE_ABOVE_MIB:
            reason = f"it uses {used:.0f} MiB (RECYCLE_ABOVE_MIB)"
        elif self._parent is not None and os.getppid() != self._parent:
            reason = "its supervisor is gone"
        if reason:
            self._end(reason)

    def _end(self, reason: str) -> None:
        """Stop, for a supervisor to start another one."""
        if not self._stop.is_set():
            logger.info("worker %s ends: %s", self.id, reason)
            self.recycled = True
            self.stop()

    async def _warn_of_eviction(self) -> None:
        """A server that evicts keys deletes jobs without a word: say so, loudly."""
        failures = 0
        while True:
            try:
                memory = await self.layer.store.connections.async_().info("memory")
            except (RedisError, OSError):
                await asyncio.sleep(reconnect.delay(failures))
                failures += 1
                continue
            policy = memory.get("maxmemory_policy", "noeviction")
            if policy != "noeviction":
                logger.critical(
                    "the job store evicts keys (maxmemory-policy %s): under memory pressure it deletes jobs. "
                    "Set it to noeviction, and give caches a server of their own",
                    policy,
                )
            return
