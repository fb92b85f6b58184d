"""Channels: what holds for each, and letting workers begin its jobs or not."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, QueryDict

from retrying import jobs
from retrying.conf import ChannelSettings, get_settings
from retrying.message import CHANNEL_NAME
from retrying.stats import ChannelStats

from . import asking, screens, snapshot
from .access import action, page, record
from .overview import row
from .words import limit_words, policy_words


def state(query: QueryDict) -> dict[str, Any]:
    alerts = snapshot.health().alerts
    rows = [{**row(found, alerts), "limits": limit_words(_settings(found.channel))} for found in snapshot.channels()]
    return {"rows": rows}


def channel_state(query: QueryDict) -> dict[str, Any]:
    """Of one channel. Raises Http404."""
    name = query.get("channel", "")
    found = _find(name)
    alerts = [alert for alert in snapshot.health().alerts if alert.channel == name]
    holds = _settings(name)
    return {
        **row(found, alerts),
        "name": name,
        "alerts": alerts,
        "policy": policy_words(holds.policy),
        "limits": limit_words(holds),
        "keep_succeeded": holds.keep_succeeded,
    }


@page
def channels(request: HttpRequest) -> HttpResponse:
    return screens.render(request, "channels", "control_room/channels.html")


@page
def channel(request: HttpRequest, name: str) -> HttpResponse:
    extra = {"section": "channels", "name": name}
    return screens.render(request, "channel", "control_room/channel.html", extra, query={"channel": name})


@action("manage")
def act(request: HttpRequest, name: str, what: str) -> HttpResponse:
    """Pause or resume a channel."""
    if what not in ("pause", "resume") or not CHANNEL_NAME.fullmatch(name):
        raise Http404("A channel can be paused and resumed.")
    if what == "resume":
        changed = jobs.resume(name)
        return _done(request, name, changed, f"{name} was resumed.", f"{name} was not paused; nothing was done.")
    if not asking.asked(request):
        waiting = jobs.counts(name).ready
        detail = (
            f"No worker begins a job of it until it is resumed. {_jobs(waiting)} ready now; running ones end, new ones "
            "are stored, none is lost."
        )
        return asking.ask(request, f"Pause {name}?", detail, yes="Pause it")
    changed = jobs.pause(name)
    return _done(request, name, changed, f"{name} is paused.", f"{name} was paused already; nothing was done.")


def _done(request: HttpRequest, name: str, changed: bool, sentence: str, otherwise: str) -> HttpResponse:
    if changed:
        record(request, sentence, target=name)
    return asking.done(request, sentence if changed else otherwise, ok=changed)


def _jobs(count: int) -> str:
    return "1 job is" if count == 1 else f"{count:,} jobs are"


def _settings(name: str) -> ChannelSettings:
    return get_settings().channel(name)


def _find(name: str) -> ChannelStats:
    for found in snapshot.channels():
        if found.channel == name:
            return found
    raise Http404(f"There is no channel {name!r}: nobody has sent to it or consumed it lately.")


screens.add("channels", template="control_room/parts/channels.html", state=state)
screens.add("channel", template="control_room/parts/channel.html", state=channel_state)
