"""Progress that newer progress replaces is left out, and the browser can tell that nothing is missing."""

from __future__ import annotations

import json
from typing import Any

from realtime.feed import Told, thinned
from retrying.layers import get_layer
from retrying.store.calls import Lease, NewJob
from retrying.topics import Position

from .app import CHANNEL
from .browser import browser

TOPIC = "user.5"


def told(offset: int, progress_of: str = "") -> Told:
    return Told(offset, json.dumps({"offset": offset}), progress_of)


def test_only_the_newest_progress_of_each_job_is_left() -> None:
    events = [told(1), told(2, "a"), told(3, "b"), told(4, "a"), told(5), told(6, "a"), told(7)]
    assert [json.loads(frame) for frame in thinned(events)] == [
        {"offset": 1},
        {"offset": 3, "first": 2},
        {"offset": 5, "first": 4},
        {"offset": 6},
        {"offset": 7},
    ]


def test_the_last_event_is_always_there() -> None:
    events = [told(offset, "a") for offset in range(1, 6)]
    assert [json.loads(frame) for frame in thinned(events)] == [{"offset": 5, "first": 1}]
    assert thinned([]) == []


class Log:
    """A running job, whose progress is on the topic's log as often as it likes."""

    async def start(self) -> None:
        self.store = get_layer().store
        await self.store.arun(self.store.enqueue(CHANNEL, [NewJob(id="a", payload=b"", topic=TOPIC)]))
        await self.store.arun(self.store.claim(CHANNEL, "worker", "T", wanted=1))
        self.batch = 0

    async def say(self, *events: tuple[str, dict[str, Any]]) -> None:
        self.batch += 1
        await self.store.arun(self.store.emit(CHANNEL, Lease("a", "T"), events, batch=self.batch))

    async def progress(self, *fractions: float) -> None:
        await self.say(*(("progress", {"fraction": fraction, "text": ""}) for fraction in fractions))


async def test_a_replay_is_thinned_out_and_can_be_resumed_from_anywhere() -> None:
    log = Log()
    await log.start()
    await log.progress(0.1, 0.2, 0.3)
    await log.say(("emit", {"data": "{}"}))
    await log.progress(0.4, 0.5)
    async with browser() as socket:
        answer = await socket.follow(TOPIC)
        assert (answer["replayed"], answer["offset"]) == (8, 8), "offsets are counted, not frames"
        frames = [await socket.hear_only("event") for _ in range(4)]
        assert [(frame["name"], frame["offset"], frame.get("first")) for frame in frames] == [
            ("ready", 1, None),
            ("running", 2, None),
            ("emit", 6, 3),
            ("progress", 8, 7),
        ]
        await log.progress(0.6)
        assert (await socket.hear_only("event"))["offset"] == 9
        for after in range(1, 9):  # also from an offset that was left out
            answer = await socket.follow(TOPIC, Position(answer["epoch"], after))
            assert (answer["recovered"], answer["replayed"]) == (True, 9 - after)
            seen = after
            while seen < 9:
                frame = await socket.hear_only("event")
                assert frame.get("first", frame["offset"]) == seen + 1
                seen = frame["offset"]
            assert frame["data"]["fraction"] == 0.6
