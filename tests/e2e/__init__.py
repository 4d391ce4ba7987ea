"""Everything here runs a real dockerd."""
