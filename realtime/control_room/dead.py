"""Dead letters grouped by what they raised and what they were: the index that the transitions keep, not a scan."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict

from retrying import jobs
from retrying.job import State, from_ms
from retrying.layers import get_layer

from . import screens
from .access import page
from .filters import MERGED, Filters

#: Groups of one channel that are shown; those in which one died last.
PER_CHANNEL = 100
#: What the store calls the letters whose groups would be too many.
OTHERS = "..."
#: Words for classes that aren't exceptions of a handler.
SPECIAL = {
    "WorkerVanished": "Its worker vanished, again and again",
    "Quarantined": "Never ran: it can't be decoded, or has no handler",
    OTHERS: "Many other errors",
}


@dataclass(frozen=True, slots=True)
class Group:
    channel: str
    error: str
    name: str
    count: int
    first: datetime
    last: datetime
    newest: str
    #: Of the list of its letters; None where they can't be told apart from others.
    address: str | None

    @property
    def words(self) -> str:
        return SPECIAL.get(self.error, "")


def state(query: QueryDict) -> dict[str, Any]:
    """What the page shows. ``loose``: letters that died before there were groups."""
    filters = Filters.of(query)
    channels = [filters.channel] if filters.channel else jobs.channels()
    problem = filters.problem or (
        f"There are {len(channels)} channels, too many for one list: choose one." if len(channels) > MERGED else ""
    )
    if problem:
        return {"problem": problem, "groups": [], "dead": 0, "more": 0, "loose": 0, "filters": filters}
    layer = get_layer()
    groups: list[Group] = []
    dead = total = 0
    for channel in channels:
        found = layer.store.run(layer.store.groups(channel, skip=0, limit=PER_CHANNEL))
        dead, total = dead + found.dead, total + found.total
        for group in found.groups:
            wanted = Filters(channel=channel, error=group.error, name=group.name, state=State.DEAD)
            groups.append(
                Group(
                    channel, group.error, group.name, group.count, from_ms(group.first), from_ms(group.last),
                    group.newest, None if group.error == OTHERS else wanted.address(),
                )
            )  # fmt: skip
    groups.sort(key=lambda group: (-group.count, group.channel, group.error, group.name))
    more = total - len(groups)
    return {
        "problem": "",
        "filters": filters,
        "groups": groups,
        "dead": dead,
        "more": more,
        "loose": 0 if more else max(0, dead - sum(group.count for group in groups)),
    }


@page
def dead(request: HttpRequest) -> HttpResponse:
    """The page."""
    extra = {"section": "dead", "channels": jobs.channels(), "filters": Filters.of(request.GET)}
    return screens.render(request, "dead", "control_room/dead.html", extra)


screens.add("dead", template="control_room/parts/dead.html", state=state, every=2.0)
