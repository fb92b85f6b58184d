"""What the periodic tasks fill and the page reads."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Repository(models.Model):
    """One entry of the polled feed, as it was last seen."""

    name = models.CharField(primary_key=True, max_length=200)
    rank = models.PositiveIntegerField(db_index=True)
    stars = models.PositiveIntegerField()
    language = models.CharField(max_length=50, blank=True, default="")
    description = models.TextField(blank=True, default="")
    url = models.CharField(max_length=500)
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ["rank"]
        verbose_name_plural = "repositories"

    def __str__(self) -> str:
        return f"{self.rank}. {self.name}"


class Quarter(models.Model):
    """The deliveries of a quarter of an hour, added up."""

    start = models.DateTimeField(primary_key=True)
    accepted = models.PositiveIntegerField()
    delivered = models.PositiveIntegerField()
    failed = models.PositiveIntegerField()
    attempts = models.PositiveIntegerField()

    class Meta:
        ordering = ["start"]

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M}: {self.accepted} accepted"


class Precomputed(models.Model):
    """The newest value of a slow function; see precomputed.py."""

    name = models.CharField(primary_key=True, max_length=100)
    value = models.JSONField()
    #: When its computation began: what it tells is at most that old, and a slower, older one does not overwrite it.
    as_of = models.DateTimeField()
    took_ms = models.PositiveIntegerField()

    class Meta:
        verbose_name_plural = "precomputed"

    def __str__(self) -> str:
        return f"{self.name} as of {self.as_of:%Y-%m-%d %H:%M:%S}"


class Batch(models.Model):
    """Many inserts that were asked for at once, to be spread over time."""

    count = models.PositiveIntegerField()
    asked_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "batches"

    def __str__(self) -> str:
        return f"{self.count} inserts"


class Reading(models.Model):
    """One insert of a batch. ``number`` makes it idempotent: a job that runs again inserts nothing new."""

    batch = models.ForeignKey(Batch, models.CASCADE, related_name="readings")
    number = models.PositiveIntegerField()
    value = models.FloatField()
    inserted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "number"], name="reading_once")]

    def __str__(self) -> str:
        return f"{self.batch_id}/{self.number}: {self.value}"


class Summary(models.Model):
    """The statistics in a sentence, made by a function service."""

    asked_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    #: How often the service was asked, throttled calls included.
    calls = models.PositiveIntegerField(default=0)
    text = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "summaries"

    def __str__(self) -> str:
        return self.text or f"asked at {self.asked_at:%H:%M:%S}"


class Forecast(models.Model):
    """A report that costs seconds of CPU."""

    asked_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    deliveries = models.PositiveIntegerField()
    result = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"forecast of {self.deliveries} deliveries"
