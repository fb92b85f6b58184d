"""The truth about deliveries: the queue only carries their ids. Rows change by conditional updates (records.py)."""

from __future__ import annotations

import base64
import secrets
import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

#: The channel that deliveries are queued on.
CHANNEL = "deliveries"


def new_id() -> str:
    return uuid.uuid4().hex


def new_secret() -> str:
    """A signing secret in the notation of Standard Webhooks: 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class Endpoint(models.Model):
    """A URL that one user sends webhooks to, with the secret that signs them."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="endpoints")
    url = models.CharField(max_length=2000)
    secret = models.CharField(max_length=100, default=new_secret, editable=False)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "url"], name="endpoint_once_per_owner")]

    def __str__(self) -> str:
        return self.url


class Delivery(models.Model):
    """One webhook to send. Its id is the webhook-id of every attempt; a redelivery is a new generation of the row."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.CharField(primary_key=True, max_length=32, default=new_id, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="deliveries")
    #: Made by the client: a command that is sent again finds the row that it made the first time.
    command_id = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001 - null is never a duplicate
    payload = models.TextField()
    send_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    #: Why it failed or was cancelled.
    reason = models.TextField(blank=True, default="")
    #: Counts the redeliveries asked for by people, from 1.
    generation = models.PositiveIntegerField(default=1)
    #: Number of the newest attempt of this generation: the fence that an older attempt doesn't get past.
    attempt = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    #: When the sweep last looked for this row's job; it takes the longest unseen first.
    swept_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [models.UniqueConstraint(fields=["owner", "command_id"], name="delivery_once_per_command")]
        indexes = [
            models.Index(fields=["owner", "-created_at"], name="delivery_of_owner"),
            models.Index("swept_at", condition=models.Q(state="pending"), name="delivery_pending"),
        ]

    def __str__(self) -> str:
        return f"{self.id} to {self.endpoint_id}: {self.state}"

    @property
    def job_id(self) -> str:
        return f"{self.id}.{self.generation}"

    @property
    def topic(self) -> str:
        return topic_of(self.owner_id)


class Attempt(models.Model):
    """One HTTP call of a delivery, or the start of one whose end nobody saw."""

    class Outcome(models.TextChoices):
        RUNNING = "running"
        DELIVERED = "delivered"
        FAILED = "failed"  # tried again, if retries are left
        GAVE_UP = "gave_up"
        BLOCKED = "blocked"
        CANCELLED = "cancelled"
        LOST = "lost"

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="attempts")
    generation = models.PositiveIntegerField()
    number = models.PositiveIntegerField()
    worker = models.CharField(max_length=200, blank=True, default="")
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.RUNNING)
    status_code = models.PositiveSmallIntegerField(null=True, blank=True)
    duration_ms = models.PositiveIntegerField(null=True, blank=True)
    error = models.TextField(blank=True, default="")
    #: Seconds that the receiver asked to wait.
    retry_after = models.FloatField(null=True, blank=True)
    request_headers = models.JSONField(default=dict)
    response_headers = models.JSONField(default=dict)
    response_excerpt = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["generation", "number"]
        constraints = [models.UniqueConstraint(fields=["delivery", "generation", "number"], name="attempt_once")]

    def __str__(self) -> str:
        return f"{self.delivery_id} attempt {self.generation}.{self.number}: {self.outcome}"


class ReceiverCall(models.Model):
    """How often a built-in receiver was called with one webhook-id: here, because the site may run in processes."""

    key = models.CharField(primary_key=True, max_length=200)
    count = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"


def topic_of(user_id: int) -> str:
    """The topic on which a user's deliveries are followed."""
    return f"user.{user_id}"
