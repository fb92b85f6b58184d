"""Channels, workers and schedules: ``pause``, ``resume``, ``worker``, ``schedule``."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from django.core.management.base import CommandError

from .. import jobs, stats
from .. import schedule as schedules
from . import options
from .options import Commands
from .output import Output

#: What a worker can be told, and what it then does, with its next sweep.
STEER = {
    "quiet": (jobs.quiet_worker, "begins no more jobs"),
    "wake": (jobs.wake_worker, "begins jobs again"),
    "stop": (jobs.stop_worker, "ends when its running jobs have, or their time is over"),
}


def add(commands: Commands) -> None:
    options.channel(commands.add(pause, "Let no worker begin jobs of a channel."))
    options.channel(commands.add(resume, "Let workers begin jobs of a paused channel again."))
    steer = commands.add(worker, "Let a worker begin no more jobs (quiet), or again (wake), or stop it.")
    steer.add_argument("what", choices=list(STEER))
    steer.add_argument("worker", help="its id, as `workers` tells it")
    options.noinput(steer)
    slots = commands.add(schedule, "List schedules; pause or resume one, or run one now.")
    slots.add_argument("what", nargs="?", choices=["list", "pause", "resume", "run"], default="list")
    slots.add_argument("name", nargs="?", help="the schedule to pause, resume or run")


def pause(given: Namespace, out: Output) -> None:
    changed = jobs.pause(given.channel, using=given.layer)
    words = f"{given.channel} is paused" + ("" if changed else " (it was already)")
    out.report({"paused": True, "changed": changed}, words)


def resume(given: Namespace, out: Output) -> None:
    changed = jobs.resume(given.channel, using=given.layer)
    words = f"{given.channel} is consumed again" if changed else f"{given.channel} was not paused"
    out.report({"paused": False, "changed": changed}, words)


def worker(given: Namespace, out: Output) -> None:
    tell, words = STEER[given.what]
    if given.what == "stop" and not given.noinput:
        out.confirm(f"Stop worker {given.worker}?")
    found = [one for one in stats.workers(using=given.layer) if one.id == given.worker]
    if not any(tell(channel, given.worker, using=given.layer) for one in found for channel in one.channels):
        raise CommandError(f"There is no live worker {given.worker}: see python manage.py retrying workers")
    out.report({"worker": given.worker, "told": given.what}, f"{given.worker} {words}")


def schedule(given: Namespace, out: Output) -> None:
    if (given.name is None) != (given.what == "list"):
        raise CommandError("schedule takes pause, resume or run and a schedule's name, or nothing: it lists them")
    if given.what == "list":
        found = schedules.statuses(using=given.layer)
        out.table([asdict(status) for status in found], empty="no function has @periodic")
    elif given.what == "run":
        job = schedules.run(given.name, using=given.layer)
        out.report({"id": job}, f"{given.name} runs now, as job {job}")
    else:
        pausing = given.what == "pause"
        changed = (schedules.pause if pausing else schedules.resume)(given.name, using=given.layer)
        words = (
            f"{given.name} is paused" + ("" if changed else " (it was already)")
            if pausing
            else f"{given.name} " + ("goes on with its next slot" if changed else "was not paused")
        )
        out.report({"paused": pausing, "changed": changed}, words)
