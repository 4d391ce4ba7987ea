"""What is released: the wheel and the sdist, and the table of what was tested.

- `records`: reads the records of runs that are kept in ``records/``;
- `compatibility`: the table of engines and drivers, and that of Pythons;
- `check`: what stands against a release: the changelog, the records, uncommitted changes.
"""
