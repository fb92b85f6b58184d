"""Very many independent inserts, spread over time by the rate of their queue."""

from __future__ import annotations

from .models import Batch, Reading

MAX_COUNT = 1_000_000


def enqueue(batch_id: int) -> int:
    """Enqueue one job for each insert; the same ids each time, so doing it again adds none. Returns how many."""
    from .tasks import insert_reading

    batch = Batch.objects.get(pk=batch_id)
    for number in range(batch.count):
        insert_reading.enqueue(batch.pk, number)
    return batch.count


def insert(batch_id: int, number: int) -> None:
    """Make the insert; doing it twice changes nothing. One of a batch that was removed is not made."""
    if Batch.objects.filter(pk=batch_id).exists():
        Reading.objects.get_or_create(
            batch_id=batch_id, number=number, defaults={"value": (number * 2654435761 % 2**32) / 2**32}
        )
