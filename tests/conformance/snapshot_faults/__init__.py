"""Snapshotters that are wrong in one thing each; see `tests.conformance.faults`."""
