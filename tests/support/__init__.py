"""Shared code of several test rooms; a room's tests import nothing of another room's."""
