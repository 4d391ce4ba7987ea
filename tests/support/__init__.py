"""What the tests of several rooms use; a room's tests import nothing of another room's."""
