"""A Channels project whose handlers do nothing: what is measured with it is what a job costs by itself.

``noop``, ``noop-sync``, ``noop-retry`` are channels of consumers as everybody writes them, ``noop-direct`` one of a
consumer of this package, ``tasks.default`` one of Django's tasks. CHANNELS in the environment adds ``noop-0``,
``noop-1``, ... for measurements with many channels.
"""
