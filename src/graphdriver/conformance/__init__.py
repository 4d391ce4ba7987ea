"""What a plugin must do, whatever it is written in: cases that tell its author whether it is right.

A `case.Case` checks one thing of a `subject.Subject`: a driver in this process, a plugin behind a
socket, or a command that starts one. `run.run` runs cases and gives results; `graphdriver conform`
shows them, and the pytest plugin of this package makes a test of each.

- `kit`: runs cases, whatever they examine.
- `plugin`: the cases for graph driver plugins.
- `snapshotter`: the cases for containerd snapshotters.
- `pytest_plugin`: the cases as tests of another project.
"""
