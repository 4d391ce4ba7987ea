"""A snapshot on a layer that lost its content: the code is DATA_LOSS, and the text names the layer."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from graphdriver.conformance.snapshotter.calls import Calls, code_of
from tests.support.command import graphdriver
from tests.support.snapshotter import Snapshotter

pytestmark = pytest.mark.root


@pytest.mark.parametrize("snapshotter", ["vfs", "overlay2"], indirect=True)
def test_damage_is_a_code_of_its_own_and_names_the_layer(
    snapshotter: Snapshotter, calls: Calls
) -> None:
    calls.prepare("a")
    calls.commit("image", "a")
    root = Path(snapshotter.root)
    assert graphdriver("fsck", str(root)).returncode == 0
    (content,) = [path for name in ("diff", "root") if (path := root / "1" / name).exists()]
    content.rename(root / ".lost")
    with pytest.raises(grpc.RpcError) as caught:
        calls.prepare("b", "image")
    assert code_of(caught.value) is grpc.StatusCode.DATA_LOSS
    assert "layer 1 is damaged: its directory" in str(caught.value.details())
    done = graphdriver("fsck", str(root))
    assert done.returncode == 14
    assert b"lost with it: snapshot image" in done.stdout
