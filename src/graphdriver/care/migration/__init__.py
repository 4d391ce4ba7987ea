"""Moves the layers of a stopped Docker daemon from one storage driver to another.

A *side* is a storage driver with its layers and the daemon's records of them. The old side is whole
until the new one has all layers; from then on no daemon can start on either until all records name the
new side. A migration that was killed is continued by the next one.

- `plan`: the two sides, the layers, what it costs, and the interface of one way to transfer layers.
- `planning`: makes the plan.
- `ways`: chooses the way. `moving`: by renames. `copying`: the old side stays.
- `conversion`: the way between two drivers, by tars. `homes`: the homes of both, served in this
  process. `new_home`: the new one while it is filled. `id_maps`: the ids of a daemon that remaps them.
- `layouts`: where a home keeps its layers. `adoption`: what a home needs besides.
- `migration`: carries out the plan. `workplace`: the journal, and homes that no daemon may use yet.
  `switching`: the daemon's records.
"""
