"""What several test packages use; a test package imports nothing of another one."""
