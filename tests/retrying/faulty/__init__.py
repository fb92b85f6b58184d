"""A project whose handlers hang, die and block, as told by their messages."""
