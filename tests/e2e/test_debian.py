from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import debian_story
from tests.e2e.engines import Engines


@pytest.mark.reaches(
    "Create", "ApplyDiff", "CreateReadWrite", "Get", "Put", "Changes", "Diff", "Remove"
)
def test_a_debian_is_imported_run_changed_committed_and_run_again(
    engines: Engines, driver: str, debian_tar: Path
) -> None:
    with engines.on_plugin(driver) as (daemon, plugin):
        assert daemon.docker("info", "--format", "{{.Driver}}") == f"{plugin.name}\n"
        debian_story.change(daemon, debian_tar, "mknod -m 660 /srv/device b 7 9")
        said = daemon.run(debian_story.CHANGED, "sh", "-c", f"{debian_story.STAT} /srv/device")
        assert said == "/srv/device 660 0:0 1 block special file 7:9\n"
        debian_story.forget(daemon)
