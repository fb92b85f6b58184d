"""Browser-facing delivery: declared websocket commands in, the topics of their jobs out.

``realtime.consumers``  generic consumers: subclass :class:`~realtime.consumers.JobConsumer`, or put
                        :class:`~realtime.consumers.JobTopicsMixin` before one of your own
``realtime.sessions``   ending sockets at once: ``sign_out``, ``recheck``, ``end_session``
``realtime.protocol``   the frames, limits and close codes (docs/protocol.md says the same in prose)
``static/realtime/client.js``  the browser's side

How it works: ``mixins`` hooks a ``socket`` into a consumer; its ``subscriptions`` are ``follower``s of the ``feed``s
that the ``hub`` of the event loop reads when ``bells`` ring; ``outgoing`` sends, no faster than the browser reads;
``seats`` counts the sockets of a user.
"""

__all__ = ["consumers", "protocol", "sessions"]
