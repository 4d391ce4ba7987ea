"""Serves a plugin with one fault: ``python -m tests.conformance.plugin.faulty NAME SOCKET``.

``none`` is the plugin that faults are planted in, behind the same proxy.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

from graphdriver import Handler, UnixListener, serve
from tests.conformance.plugin.faults import FAULTS
from tests.conformance.plugin.faults.fault import Broken
from tests.conformance.plugin.faults.proxy import ProxyServer
from tests.conformance.plugin.served import parts


def main(name: str, path: str) -> None:
    (planted,) = [fault.planted for fault in FAULTS if fault.name == name] or [Broken]
    driver, proxy = parts(planted)
    if proxy.clears_stale:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    listener = UnixListener(f"{path}.whole")
    with ProxyServer(path, f"{path}.whole", proxy) as between:
        threading.Thread(target=between.serve_forever, daemon=True).start()
        serve(Handler(driver(), state_dir=f"{path}.state"), listener)
        os.unlink(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
