"""``manage.py retrying``, a module for each kind of thing to ask or to do.

``standing``  stats, health, errors, workers, doctor: how it goes
``channel``   channel: all about one channel
``listing``   jobs, show: which jobs there are, and all about one
``acting``    retry, cancel, redrive, purge: one job, several, or all that match
``switches``  pause, resume, worker, schedule
``options``   what the commands take
``output``    tables, JSON, and questions
"""
