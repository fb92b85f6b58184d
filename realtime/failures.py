"""What a browser is told when something goes wrong; what it need not know is in the log only."""

from __future__ import annotations

import logging
import secrets

from django.db import InterfaceError, OperationalError
from msgspec import UNSET, UnsetType

from retrying import StoreFull, StoreUnavailable

from .commands import CommandError
from .protocol import Code, Error

logger = logging.getLogger(__name__)


def error_frame(error: Exception, doing: str, id: str | UnsetType = UNSET, topic: str | UnsetType = UNSET) -> Error:
    """The error frame for what ``doing`` raised."""
    match error:
        case CommandError():
            return Error(error.code, error.message, id, topic, error.fields or UNSET)
        case StoreFull():
            logger.error("The store is full; %s was refused.", doing)
            return Error(Code.UNAVAILABLE, "The store is full: try again later.", id, topic)
        case StoreUnavailable():
            logger.warning("The store did not answer: %s (%s)", doing, error)
            return Error(Code.UNAVAILABLE, "The store can't be reached: try again.", id, topic)
        case OperationalError() | InterfaceError():
            logger.error("The database did not answer: %s", doing, exc_info=error)
            return Error(Code.UNAVAILABLE, "The database can't be reached: try again.", id, topic)
    reference = secrets.token_hex(4)
    logger.error("Reference %s: %s failed", reference, doing, exc_info=error)
    return Error(Code.INTERNAL, f"Something went wrong here (reference {reference}).", id, topic)
