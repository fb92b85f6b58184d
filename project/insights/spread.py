"""Very many independent inserts, spread over time by the rate of their queue."""

from __future__ import annotations

from .models import Batch, Reading

MAX_COUNT = 1_000_000
#: Most inserts that wait in the queue: more are added as these are made.
MAX_BACKLOG = 20_000


async def enqueue(batch_id: int) -> int:
    """Enqueue a task for each insert of a batch, as fast as they are made; after a crash it goes on where it was.

    Returns how many there are.
    """
    from .tasks import insert_reading

    batch = await Batch.objects.aget(pk=batch_id)
    calls = ((batch.pk, number) for number in range(batch.count))
    if hasattr(insert_reading, "aenqueue_many"):
        await insert_reading.aenqueue_many(calls, batch=f"readings-{batch.pk}", max_backlog=MAX_BACKLOG)
    else:  # a backend that takes one at a time
        for call in calls:
            await insert_reading.aenqueue(*call)
    return batch.count


def insert(batch_id: int, number: int) -> None:
    """Make the insert; doing it twice changes nothing. One of a batch that was removed is not made."""
    if Batch.objects.filter(pk=batch_id).exists():
        Reading.objects.get_or_create(
            batch_id=batch_id, number=number, defaults={"value": (number * 2654435761 % 2**32) / 2**32}
        )
