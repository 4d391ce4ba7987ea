"""The kit for graph driver plugins.

- `cases`: a module for each group of cases.
- `kit`: the class that a case works with.
- `subject`: the plugin or driver under test.
- `references`: the sources of the rules.
- `wire`: requests and responses byte by byte.
- `diffs`: reads a Diff and a list of changes.
- `tars`: makes tars header by header.
"""
