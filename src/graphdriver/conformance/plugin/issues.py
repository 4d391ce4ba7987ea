"""Why things are checked: what daemons do, and what became of drivers that were not ready for it.

What is told of daemons was read off the wire of Docker 20.10.24 and 27.5.1. A reference is a report
in a tracker, an advisory, or a section of a specification.
"""

from __future__ import annotations

from typing import Final

from graphdriver.conformance.kit.case import Reason

_API = "Docker Engine documentation, Docker graph driver plugins"

LIFE_OF_A_LAYER: Final = Reason(
    "A daemon keeps its own list of layers and believes that the plugin's is the same.", (_API,)
)
REMOVE_IS_REPEATED: Final = Reason(
    "A daemon removes a layer again whose Remove it did not see answered, and calls an error a layer "
    "that cannot be deleted.",
    (_API,),
)
MOUNTED_AT_REMOVE: Final = Reason(
    "A daemon that was killed does not Put what it held; the next one removes those layers.",
    ("https://github.com/moby/moby/issues/22260",),
)
GETS_NEST: Final = Reason(
    "A daemon Gets a container's layer to run it and again to copy, to commit or to look at it; the "
    "first Put must not pull the folder from under the others."
)
ERRORS_NAME: Final = Reason(
    "A daemon shows the plugin's text to its user, word for word; a bare errno tells nobody what to do."
)
