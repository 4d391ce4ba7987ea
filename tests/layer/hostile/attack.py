"""What an attack is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.plain_tree import PlainTree

BOTH: tuple[type[Form], ...] = (PlainTree, UpperDirectory)


@dataclass(frozen=True)
class Attack:
    """Tars of an attacker, and what must become of them.

    Attributes:
        trap: entries of the parent, or of the same layer in front of the blow.
        blow: entries of the layer.
        refused: words of the refusal, a regular expression; None where the layer is taken and does
            no harm.
        leaves: what must be there afterwards, by name, with its content; None: must not be there.
            Of a layer that was refused too, since not all who unpack look at the error.
        forms: which forms it is for.
    """

    trap: tuple[bytes, ...] = ()
    blow: tuple[bytes, ...] = ()
    refused: str | None = None
    leaves: Mapping[bytes, bytes | None] = field(default_factory=dict)
    forms: tuple[type[Form], ...] = BOTH
