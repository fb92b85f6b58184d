"""Django signals.

``alert``: sent when an alert is raised and when it is over, once each, by one worker of all, in a thread; what a
receiver raises is logged. Arguments: ``sender``, the class Alert; ``alert``, an Alert (of one that is over only
``kind``, ``channel`` and ``schedule`` tell something); ``raised``, False when it is over.

A worker that dies between learning of an alert and telling of it tells nobody: what must not be missed is watched from
outside, by ``manage.py retrying health`` or the metrics. Without any worker nothing is sent.
"""

from __future__ import annotations

from django.dispatch import Signal

alert = Signal()
