"""Drivers on overlays: each layer is an upper directory, shown by a mount upon the layers below it."""
