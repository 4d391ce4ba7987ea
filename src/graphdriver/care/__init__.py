"""Looks at a home and repairs it, while a plugin serves it or while none does; speaks no protocol.

- `findings`: what a check found, how bad it is, and what to do.
- `owners`: to which image, container or build each layer belongs, by the engines' own records.
"""
