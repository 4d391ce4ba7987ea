"""Plugins that are wrong in one thing each, so that it is seen that the kit can fail.

Each module below holds faults of one group of cases. A fault is planted in a driver that works
(`Broken`) or in what stands between the daemon and a plugin that works (`Proxy`), and knows nothing of
the cases. `python -m tests.conformance.faulty NAME SOCKET` serves it.
"""
