"""A Channels project as people have it: the same consumers for plain Channels and for this package."""
