"""The kit for plugins: each of its cases can fail, no plugin harms its host, and the examples pass."""
