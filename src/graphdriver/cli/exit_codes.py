"""What the kinds of errors are as exit codes: one table, which ``--help`` shows.

0 is success, and 2 is wrong usage, as argparse has it; every other failure that a script may want to
tell from the rest has a number of its own, and what is left is 1.
"""

from __future__ import annotations

from typing import Final

from graphdriver.errors import GraphDriverError, Kind

OK: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130
"""SIGINT, as shells count it: 128 and the signal's number."""

CODES: Final = {
    Kind.FAILED: FAILED,
    Kind.MALFORMED: 2,
    Kind.NOT_FOUND: 3,
    Kind.EXISTS: 4,
    Kind.IN_USE: 5,
    Kind.UNFINISHED: 6,
    Kind.UNSUPPORTED: 7,
    Kind.UNKNOWN_CALL: 7,
    Kind.WRONG_METHOD: 7,
    Kind.NOT_READY: 8,
    Kind.BAD_ARCHIVE: 9,
    Kind.BROKEN_STREAM: 10,
    Kind.UNREACHABLE: 11,
    Kind.TOO_LARGE: 12,
}

TABLE: Final = """\
exit codes:
  0    done
  1    the call failed; plugins of others report only a message, so there is no finer code
  2    wrong usage, or a request that breaks the protocol's rules
  3    no such layer
  4    the layer exists already
  5    the socket, the home or the layer is in use by somebody else
  6    the layer is incomplete: its transfer did not finish
  7    this driver, filesystem, kernel or plugin cannot do it
  8    no daemon has sent Init to the plugin yet
  9    a layer's tar is damaged or hostile
  10   a stream broke off
  11   no plugin answers
  12   a request over the plugin's limits
  130  interrupted
"""


def exit_code(error: GraphDriverError) -> int:
    """Return what to exit with after an error."""
    return CODES[error.kind]
