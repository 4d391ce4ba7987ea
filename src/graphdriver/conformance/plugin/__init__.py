"""What any graph driver plugin must do.

- `cases`: a module for each group of cases.
- `kit`: what a case works with.
- `subject`: the plugin or driver that is examined.
- `references`: the reason for each rule.
- `wire`: requests and responses byte by byte.
- `diffs`: reads a Diff and a list of changes.
- `tars`: makes tars header by header.
"""
