"""The kit itself, and what the tests of both kits share."""
