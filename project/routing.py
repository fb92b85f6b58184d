"""Which consumer answers which websocket path, and which one consumes which background channel."""

from django.urls import path

from project.streaming.consumers import StoriesConsumer, StoryWorker
from project.webhooks.consumers import DeliveriesConsumer, DeliveryWorker
from realtime.control_room.routing import websockets as control_room

websockets = [
    *control_room,
    path("ws/deliveries/", DeliveriesConsumer.as_asgi()),
    path("ws/stories/", StoriesConsumer.as_asgi()),
]

channels = {
    "deliveries": DeliveryWorker.as_asgi(),
    "stories": StoryWorker.as_asgi(),
}
