"""The conformance kit: cases that check a plugin in any language, and a snapshotter for containerd.

`graphdriver conform` runs the cases and shows the results.

- `kit`: cases, runs and reports, for both kits.
- `plugin`: the cases for graph driver plugins.
- `snapshotter`: the cases for containerd snapshotters.
- `pytest_plugin`: the cases as tests of another project.
"""
