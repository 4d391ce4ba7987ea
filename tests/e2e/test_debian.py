from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.engines import Engines
from tests.e2e.homes import layers

CHANGE = r"""
set -e
cd /
rm -r /usr/share/doc
rm -r /opt && ln -s usr/local /opt
printf 'made in the container\n' > /srv/made
chown 1234:4321 /srv/made
chmod 6751 /srv/made
ln /srv/made /srv/made-too
cp /usr/bin/perl /usr/bin/able
setcap cap_net_bind_service=ep /usr/bin/able
mkfifo -m 600 /srv/fifo
mknod -m 660 /srv/device b 7 9
dpkg --purge attr
"""

SHOW = r"""
set -e
cd /
test ! -e /usr/share/doc
readlink /opt
cat /srv/made-too
stat --format '%n %a %u:%g %h %F %t:%T' /srv/made /srv/fifo /srv/device
getcap /usr/bin/able
/usr/bin/able -e 'print "perl runs\n"'
dpkg-query --show --showformat '${db:Status-Abbrev}\n' attr 2>/dev/null || echo attr is gone
dpkg --verify | grep --invert-match ' /usr/share/doc' || true
"""

SHOWN = """\
usr/local
made in the container
/srv/made 6751 1234:4321 2 regular file 0:0
/srv/fifo 600 0:0 1 fifo 0:0
/srv/device 660 0:0 1 block special file 7:9
/usr/bin/able cap_net_bind_service=ep
perl runs
attr is gone
"""


@pytest.mark.reaches(
    "Create", "ApplyDiff", "CreateReadWrite", "Get", "Put", "Changes", "Diff", "Remove"
)
def test_a_debian_is_imported_run_changed_committed_and_run_again(
    engines: Engines, driver: str, debian_tar: Path
) -> None:
    assert debian_tar.stat().st_size > 100_000_000
    with engines.on_plugin(driver, name=f"py-{driver}") as (daemon, _):
        assert daemon.docker("info", "--format", "{{.Driver}}") == f"py-{driver}\n"
        daemon.docker("import", str(debian_tar), "debian:made")
        size = int(daemon.docker("inspect", "--format", "{{.Size}}", "debian:made"))
        assert size > 100_000_000

        # dpkg knows the digest of every file of every package, and tells of those that differ.
        assert daemon.run("debian:made", "dpkg", "--verify") == ""
        assert re.match(r"12\.\d+\n", daemon.run("debian:made", "cat", "/etc/debian_version"))

        run = ["run", "--name=changed", "--network=none", "debian:made"]
        daemon.docker(*run, "sh", "-c", CHANGE)
        changes = daemon.docker("diff", "changed").splitlines()
        assert {"A /srv/made", "C /opt", "D /usr/share/doc", "D /usr/bin/getfattr"} <= {*changes}
        daemon.docker("commit", "changed", "debian:changed")
        daemon.docker("rm", "changed")
        assert daemon.run("debian:changed", "sh", "-c", SHOW) == SHOWN
        assert daemon.run("debian:made", "dpkg", "--verify") == "", "its parent changed"
        daemon.docker("rmi", "debian:changed", "debian:made")
        assert layers(daemon) == []
