"""Workers: who is alive, what each runs, and telling one to begin nothing more, or to stop."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, QueryDict

from retrying import jobs
from retrying.job import Job, State
from retrying.stats import Worker

from . import asking, screens, snapshot
from .access import action, page, record

#: Running jobs shown of one channel.
RUNNING_SHOWN = 100


def state(query: QueryDict) -> dict[str, Any]:
    running = _running()
    cut = any(item.counts.running > RUNNING_SHOWN for item in snapshot.channels())
    rows = []
    for worker in snapshot.workers():
        jobs_ = running.get(worker.id, [])
        # What a worker says of itself is as old as its last sweep.
        rows.append({"worker": worker, "jobs": jobs_, "running": worker.running if cut else len(jobs_)})
    without = [
        item.channel for item in snapshot.channels() if not item.workers and (item.counts.ready or item.counts.running)
    ]
    return {"rows": rows, "without": without}


def _running() -> dict[str, list[Job]]:
    """Jobs under way by worker: of each channel those that began last."""
    found: defaultdict[str, list[Job]] = defaultdict(list)
    for item in snapshot.channels():
        if item.counts.running:
            for job in jobs.search(item.channel, State.RUNNING, limit=RUNNING_SHOWN).jobs:
                found[job.worker].append(job)
    return found


@page
def workers(request: HttpRequest) -> HttpResponse:
    return screens.render(request, "workers", "control_room/workers.html")


@action("manage")
def act(request: HttpRequest, what: str) -> HttpResponse:
    """Quiet, wake or stop the worker that was POSTed."""
    tell = {"quiet": jobs.quiet_worker, "wake": jobs.wake_worker, "stop": jobs.stop_worker}.get(what)
    if tell is None:
        raise Http404("A worker can be quieted, woken and stopped.")
    worker = _find(request.POST.get("worker", ""))
    if worker is None:
        return asking.done(request, "That worker is gone; nothing was done.", ok=False)
    if what == "stop" and not asking.asked(request):
        detail = (
            "It begins no more jobs, lets those that it runs end for as long as its shutdown timeout says, gives the "
            f"rest back uncharged, and exits. It runs {worker.running} now. A supervisor may start it anew."
        )
        return asking.ask(request, f"Stop worker {worker.id}?", detail, yes="Stop it", danger=True)
    if not any(tell(channel, worker.id) for channel in worker.channels):
        return asking.done(request, f"{worker.id} is gone; nothing was done.", ok=False)
    words = {"quiet": "begins no more jobs", "wake": "begins jobs again", "stop": "is asked to stop"}[what]
    sentence = f"Worker {worker.id} {words}: it obeys with its next look."
    record(request, sentence, target=worker.id)
    return asking.done(request, sentence)


def _find(worker_id: str) -> Worker | None:
    return next((worker for worker in snapshot.workers() if worker.id == worker_id), None)


screens.add("workers", template="control_room/parts/workers.html", state=state)
