"""Where a plugin listens, and how a daemon or a client finds it."""
