"""The worker behind ``runworker``: pulls jobs into a pool of application instances."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from . import reconnect
from .conf import Settings, get_settings
from .lane import Lane
from .layers import RetryingChannelLayer
from .renewal import Renewal
from .routes import Route

logger = logging.getLogger("retrying.worker")

#: Seconds between two looks for timeouts and leases about to end.
TICK = 0.2
#: Exit statuses: all ended or given back; told twice to stop; a part of the worker failed.
STOPPED, HURRIED, FAILED = 0, 1, 1


def worker_id() -> str:
    """``host:pid:random``."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class Worker:
    """Consumes channels until told to stop.

    ``channels``: name -> jobs at a time, None = the channel's setting. Raises NoRoute for a channel that the routers
    have no application for.
    """

    def __init__(
        self,
        application: Any,
        channels: Mapping[str, int | None],
        layer: RetryingChannelLayer,
        *,
        shutdown_timeout: float | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.id = worker_id()
        self.layer = layer
        self.settings = settings or get_settings()
        self.shutdown_timeout = self.settings.SHUTDOWN_TIMEOUT_SECONDS if shutdown_timeout is None else shutdown_timeout
        self._channels = dict(channels)
        self._routes = [Route(application, name, self.settings.channel(name).policy) for name in channels]
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failed = False

    def stop(self) -> None:
        """Take no more jobs and end; called again: give running jobs back at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> int:
        """Work until stopped. Returns the exit status."""
        loop = asyncio.get_running_loop()
        lanes = [self._lane(route) for route in self._routes]
        renewal = Renewal(lanes, loop, self.settings)
        warning = asyncio.create_task(self._warn_of_eviction())
        ticking = asyncio.create_task(self._tick(lanes))
        for lane in lanes:
            lane.start()
        renewal.start()
        logger.info("worker %s is ready", self.id)
        try:
            await self._stop.wait()
            logger.info(
                "worker %s stops: no new jobs, up to %s s for %d running ones",
                self.id, self.shutdown_timeout, sum(len(lane.attempts) for lane in lanes),
            )  # fmt: skip
            await asyncio.gather(*(lane.drain(self.shutdown_timeout, self._hurry) for lane in lanes))
        finally:
            renewal.stop()
            for task in (ticking, warning):
                task.cancel()
            for lane in lanes:
                await lane.stop()
            await asyncio.to_thread(renewal.join)
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

    def _lane(self, route: Route) -> Lane:
        settings = self.settings.channel(route.channel)
        concurrency = self._channels[route.channel] or settings.concurrency
        policy = "the handlers' own, else the channel's" if route.consumer else "the channel's for every message"
        logger.info(
            "worker %s consumes %s: %d at a time (--concurrency), retry policy: %s, lease %s s",
            self.id, route.channel, concurrency, policy, self.settings.LEASE_SECONDS,
        )  # fmt: skip
        return Lane(
            route,
            self.layer,
            self.id,
            settings=self.settings,
            channel_settings=settings,
            concurrency=concurrency,
            on_failure=self._fail,
        )

    def _fail(self) -> None:
        self._failed = True
        self.stop()

    async def _tick(self, lanes: list[Lane]) -> None:
        while True:
            await asyncio.sleep(TICK)
            for lane in lanes:
                lane.tick()

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
