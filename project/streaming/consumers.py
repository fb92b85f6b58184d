"""The two consumers of a story: the one that a browser talks to, and the one that `runworker stories` runs."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from channels.consumer import AsyncConsumer
from django.conf import settings

from realtime.consumers import UserJobsConsumer, command, user_topic
from retrying import aenqueue, current_job

from .story import WORDS

#: The channel that stories are queued on.
CHANNEL = "stories"

#: Words from one progress report to the next. A topic keeps its newest 1,000 events: one attempt has to fit in.
REPORT_EVERY = 8


class Tell(msgspec.Struct, forbid_unknown_fields=True):
    #: Let the first attempt fail half-way.
    stumble: bool = False


class StoriesConsumer(UserJobsConsumer):
    """A signed-in user's stories: begun by a command, followed on the user's own topic."""

    channel = CHANNEL

    @command
    async def tell(self, args: Tell, command_id: str) -> dict[str, Any]:
        """One job for one command id, however often it arrives: the answer says how to follow it."""
        topic = user_topic(self.user)
        message = {"type": "tell", "stumble": args.stumble}
        job = await aenqueue(CHANNEL, message, job_id=f"{self.user.pk}.{command_id}", topic=topic)
        return {"topic": topic, "job": job.id}


class PagesStuck(Exception):
    """What the first attempt fails with, when it was asked to."""


class StoryWorker(AsyncConsumer):
    """Tells the story, a word an event. A later attempt begins anew, and the page with it."""

    async def tell(self, message: dict[str, Any]) -> None:
        job = current_job()
        for number, word in enumerate(WORDS):
            if message["stumble"] and job.attempt == 1 and number == len(WORDS) // 2:
                raise PagesStuck("two pages stuck together")
            if number % REPORT_EVERY == 0:
                await job.aprogress(number / len(WORDS), f"Word {number + 1} of {len(WORDS)}")
            await job.aemit({"text": f"{word} "})
            await asyncio.sleep(settings.STREAMING_WORD_SECONDS)
