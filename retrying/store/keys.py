"""The key map of a channel; what each key holds is told at the top of ``lua/common.lua``."""

from __future__ import annotations

from dataclasses import dataclass

#: What follows the channel's part of a key.
NAMES = (
    "job:", "ready", "scheduled", "leases", "dead", "finished", "succeeded", "workers", "meta", "bell", "topic:",
    "newer", "unique:", "schedule:", "limit:", "batch:", "stats:", "groups",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one channel, all of one hash tag, so of one slot of a cluster."""

    #: What a script is given as its KEYS; it makes the others of them.
    sent: tuple[str, str]
    #: In the order of NAMES.
    all: tuple[str, ...]

    @classmethod
    def of(cls, prefix: str, channel: str) -> Keys:
        """``prefix``: of the whole store, e.g. ``retrying:asgi``."""
        own = f"{prefix}:{{{channel}}}:"
        return cls((own, own + NAMES[0]), tuple(own + name for name in NAMES))

    @property
    def bell(self) -> str:
        return self.all[9]

    @property
    def waiting(self) -> tuple[str, ...]:
        """Those that hold the jobs which a claim could begin, now or when they are due. None exists: nothing waits."""
        _, ready, scheduled, *_ = self.all
        return ready, scheduled, f"{self.all[14]}turns"

    def topic(self, name: str) -> str:
        """The stream of a topic, and the pub/sub channel that tells of its news."""
        return self.all[10] + name
