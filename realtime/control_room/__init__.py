"""The control room: what is in the store, seen and acted on by staff, in the Django project that is already there.

    path("jobs/", include("realtime.control_room.urls"))    # urls.py
    URLRouter([*realtime.control_room.routing.websockets])  # asgi.py, with the project's other websockets

``screens``   what a page shows live, read once a second at most, however many browsers look
``consumers`` the socket that hands out those parts; ``live`` the waiting for them
``access``    who may look, manage, purge
``asking``    every change is POSTed, asked, and answered in words
"""
