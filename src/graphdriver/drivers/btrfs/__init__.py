"""The driver on btrfs."""
