"""Browser-facing delivery: declared websocket commands in, the topics of their jobs out.

``realtime.consumers``  generic consumers: subclass :class:`~realtime.consumers.JobConsumer`
``realtime.protocol``   the frames, limits and close codes (docs/protocol.md says the same in prose)
``realtime.topics``     how topics of the store reach many sockets of one process
``static/realtime/client.js``  the browser's side
"""

__all__ = ["consumers", "protocol", "topics"]
