"""When a schedule's slots are, and which of them are to be run: pure, without Django, store or clock."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import islice
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from ..exceptions import InvalidSchedule

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
#: How far cronsim looks for a line's next slot.
HORIZON = timedelta(days=366 * 50)
#: Most missed slots that catch_up="all" makes up for: the newest ones.
MAX_CATCH_UP = 1000
#: A slot of catch_up="skip" that is later than this, or than half the way to the next slot, was missed.
LATE = timedelta(seconds=10)


class CatchUp(StrEnum):
    """What becomes of slots at whose time no worker ran."""

    SKIP = "skip"
    """None of them is made up for."""
    LAST = "last"
    """The newest one runs."""
    ALL = "all"
    """Each runs, the oldest first; of more than ``MAX_CATCH_UP`` the newest so many."""


class Slot(NamedTuple):
    """A slot to be run. ``until``: later than this it counts as missed; None: it never does."""

    at: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What ``@periodic`` was told, checked. Raises InvalidSchedule naming the field.

    ``cron`` is read in ``zone``; ``every`` counts from 1970-01-01T00:00Z, so that all workers agree.
    """

    cron: str | None = None
    every: timedelta | None = None
    zone: tzinfo = UTC
    jitter: timedelta = timedelta(0)
    catch_up: CatchUp = CatchUp.SKIP

    def __post_init__(self) -> None:
        if (self.cron is None) == (self.every is None):
            raise InvalidSchedule("@periodic takes cron= or every=: one of them, and not both")
        if self.every is not None:
            every: object = self.every
            if not isinstance(every, timedelta) or every < SECOND or every % SECOND:
                raise InvalidSchedule(f"every takes a timedelta of whole seconds, 1 or more, got {every!r}")
        else:
            self._check_cron()
        jitter: object = self.jitter
        if not isinstance(jitter, timedelta) or not timedelta(0) <= jitter <= timedelta(days=1):
            raise InvalidSchedule(f"jitter takes a timedelta from 0 to 1 day, got {jitter!r}")

    def _check_cron(self) -> None:
        if not isinstance(self.cron, str):
            raise InvalidSchedule(f'cron takes a line like "*/10 * * * *", got {self.cron!r}')
        try:
            found = next(CronSim(self.cron, EPOCH), None)
        except CronSimError as error:
            raise InvalidSchedule(
                f"cron: {str(error).lower()} in {self.cron!r}; a line has minute, hour, day of month, month and "
                "day of week, and may have the second before them"
            ) from None
        if found is None:
            raise InvalidSchedule(f"cron: {self.cron!r} has no slot within 50 years")

    @property
    def line(self) -> str:
        """In words of its own: another line, another schedule."""
        if self.every is not None:
            return f"every {_words(self.every)}"
        return f"{self.cron} {self.zone}"

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The slots in (after, until], rising, in UTC."""
        if self.every is not None:
            slot = EPOCH + ((after - EPOCH) // self.every + 1) * self.every
            while slot <= until:
                yield slot
                slot += self.every
            return
        last = after.astimezone(UTC)
        for found in CronSim(self._cron, after.astimezone(self.zone)):
            slot = found.astimezone(UTC)
            if slot > until:
                return
            # A time that the change of clocks leaves out moves to its end, where another slot may be already; one
            # that comes twice is found again by a search that begins between the two.
            if slot > last:
                yield slot
                last = slot

    def next(self, after: datetime) -> datetime:
        """The first slot after a time."""
        return next(self.slots(after, after + HORIZON), after + HORIZON)

    def newest(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        """The last ``limit`` slots in (after, until], rising; it takes no longer when there are millions of them."""
        steps = limit
        while True:
            start = max(after, self._back(until, steps))
            found = deque(self.slots(start, until), maxlen=limit)
            if len(found) == limit or start == after:
                return list(found)
            steps *= 2  # some fell together, see slots()

    def due(self, mark: datetime, now: datetime) -> list[Slot]:
        """The slots to run of those after ``mark``, the newest slot that was decided on."""
        if self.catch_up is CatchUp.ALL:
            return [Slot(at, None) for at in self.newest(mark, now, MAX_CATCH_UP)]
        return [Slot(at, self._late(at)) for at in self.newest(mark, now, 1)]

    def start(self, name: str, slot: datetime) -> datetime:
        """When the job of a slot may start: its jitter depends on the schedule and the slot alone."""
        return slot + random.Random(f"{name} {slot.isoformat()}").random() * self.jitter

    @property
    def _cron(self) -> str:
        assert self.cron is not None
        return self.cron

    def _back(self, until: datetime, steps: int) -> datetime:
        """A time that is before about so many slots."""
        if self.every is not None:
            return until - steps * self.every
        backwards = CronSim(self._cron, until.astimezone(self.zone), reverse=True)
        found = next(islice(backwards, steps - 1, None), None)
        return until - HORIZON if found is None else found.astimezone(UTC) - SECOND

    def _late(self, slot: datetime) -> datetime | None:
        if self.catch_up is not CatchUp.SKIP:
            return None
        return slot + min(LATE, (self.next(slot) - slot) / 2)


def timing(
    *,
    cron: str | None,
    every: timedelta | None,
    tz: str | tzinfo | None,
    jitter: Any,
    catch_up: str,
    default_zone: str,
) -> Timing:
    """A Timing from what people write. Raises InvalidSchedule naming the field."""
    if tz is not None and every is not None:
        raise InvalidSchedule("tz goes with cron; every counts from 1970-01-01T00:00 UTC")
    if isinstance(jitter, (int, float)) and not isinstance(jitter, bool) and 0 <= jitter <= 86400:
        jitter = timedelta(seconds=jitter)
    if catch_up not in list(CatchUp):
        raise InvalidSchedule(f"catch_up takes {', '.join(map(repr, map(str, CatchUp)))}, got {catch_up!r}")
    return Timing(
        cron=cron,
        every=every,
        zone=_zone(tz if tz is not None else default_zone) if every is None else UTC,
        jitter=jitter,
        catch_up=CatchUp(catch_up),
    )


def _zone(tz: object) -> tzinfo:
    if isinstance(tz, tzinfo):
        return tz
    try:
        if isinstance(tz, str):
            # cronsim knows the UTC of datetime only as a zone without changes of the clock
            return UTC if tz.upper() == "UTC" else ZoneInfo(tz)
    except (ValueError, OSError, LookupError):
        pass
    raise InvalidSchedule(f'tz takes the name of a time zone like "Europe/Berlin", or a tzinfo, got {tz!r}')


def _words(every: timedelta) -> str:
    seconds = round(every / SECOND)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
