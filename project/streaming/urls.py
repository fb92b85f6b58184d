"""URLs of the streaming app."""

from django.urls import path

from . import pages

urlpatterns = [path("", pages.story, name="story")]
