"""The common parts of both kits.

- `case`: one rule, its reason, and the function that checks it.
- `run`: runs cases one after the other.
- `report`: the table, the summary, the files for programs.
- `expect`: the message of a case that fails.
- `raised`: the message of an error that a case did not expect.
- `process`: a plugin that a command starts.
- `homes`: checks paths that a plugin names before the kit touches them.
- `scratch`: temporary directories.
- `tree`: a tree with everything that a layer can hold, and its record.
"""
