"""One file a peer: how it sends, how it works, at which settings."""
