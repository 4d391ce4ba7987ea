"""What a release needs: a table of what was tested, made of the tests' own records.

- `records`: reads the records of runs that are kept in ``records/``;
- `compatibility`: the table of engines and drivers, and that of Pythons.
"""
