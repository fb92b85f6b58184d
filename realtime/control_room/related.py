"""What of the project a job belongs to: links on its page, declared in the ``ready()`` of an AppConfig.

related.register("reports", lambda job_id: ("Report", reverse("report", args=[job_id])))
"""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: From a job's id, words and an address of this site; None when it has none.
Link = Callable[[str], tuple[str, str] | None]

_links: dict[str, list[Link]] = {}


def register(channel: str, link: Link) -> None:
    """Show ``link`` on the pages of the jobs of ``channel``."""
    _links.setdefault(channel, []).append(link)


def links(channel: str, job_id: str) -> list[tuple[str, str]]:
    """The links of a job. One that can't be made is logged and left out: it must not cost the page."""
    found = []
    for link in _links.get(channel, ()):
        try:
            made = link(job_id)
        except Exception:
            logger.exception("The link of job %s of %s could not be made", job_id, channel)
        else:
            found += [made] if made is not None else []
    return found
