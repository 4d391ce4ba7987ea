"""The driver that works everywhere."""
