"""A driver at work in a home, whichever engine asks."""
