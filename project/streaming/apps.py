from django.apps import AppConfig


class StreamingConfig(AppConfig):
    name = "project.streaming"
    label = "streaming"
    verbose_name = "A text stream"
