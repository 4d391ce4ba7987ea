"""The kit itself, and shared code of the tests of both kits."""
