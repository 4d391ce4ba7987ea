"""Shared code of several test packages; a test package imports nothing of another one."""
