from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graphdriver.drivers.overlay.parents import ParentIndex

IDS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "discard"]), IDS, st.sampled_from(["", *"abcdef"]))
)


@given(STEPS)
def test_children_are_those_that_a_look_through_all_would_find(
    steps: list[tuple[str, str, str]],
) -> None:
    parents: dict[str, str] = {}
    index = ParentIndex(parents.__getitem__)
    for step, id, parent in steps:
        if step == "add" and id not in parents:
            parents[id] = parent
            index.add(id, parent)
        elif step == "discard":
            parents.pop(id, None)
            index.discard(id)
        for one in "abcdef":
            children = [child for child, above in parents.items() if above == one]
            assert index.first_child(one) == min(children, default="")
            from_disk = ParentIndex(parents.__getitem__)
            from_disk.read(parents)
            assert from_disk.first_child(one) == min(children, default="")
