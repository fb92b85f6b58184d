"""A Channels project as people have it: nothing in consumers.py and asgi.py knows of this package."""
