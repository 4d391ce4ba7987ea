"""What the cases of both kits are run with."""
