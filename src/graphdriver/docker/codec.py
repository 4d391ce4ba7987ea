"""The encoder and decoder of the protocol's messages, as JSON.

It accepts what Go's JSON decoder accepts: member names in any letter case, unknown members, ``null``
for an absent value, a member more than once (the last one counts), and both spellings of an ID map
(``container_id``, which daemons send, and ``ContainerID``, which their documentation shows). Everything
else is a `MalformedRequestError` that names the member and the rule.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeVar

from graphdriver.driver import LAYER_ID, Capabilities, Change, ChangeKind, IDMap
from graphdriver.errors import MalformedRequestError, UnsupportedError
from graphdriver.returned import DIRECTORY_RULE, LONGEST_PATH, is_directory_path

MOST_CHANGES_SIZE: Final = 64 << 20
"""The longest list of changes, in bytes of JSON."""

_SURROGATES: Final = re.compile("[\ud800-\udfff]")

# Limits the part of a wrong value that an error shows, and the work for it.
_shown: Final = reprlib.Repr()
_shown.maxstring = _shown.maxlong = _shown.maxother = 60


def _no_surrogates(text: str) -> str:
    """Replace each byte that is not UTF-8 by U+FFFD, as Go's encoder does."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """The reader and the writer of one type of member.

    Attributes:
        decode: checks a value from JSON and returns ours; the first argument is the member's name,
            for errors.
        encode: returns a value that `json` can write.
        write: writes the JSON itself, instead of ``encode``: of long lists piece by piece.
    """

    decode: Callable[[str, Any], Any]
    encode: Callable[[Any], Any]
    write: Callable[[Any, io.BytesIO], None] | None = None


def _wrong(member: str, rule: str, value: object) -> MalformedRequestError:
    shown = _shown.repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return MalformedRequestError(f"{member} must be {rule}, not {shown}")


def _text(member: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(member, "a string", value)
    return _no_surrogates(value)


def _optional_text(_: str, value: object) -> str:
    return value if isinstance(value, str) else ""


def _boolean(member: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(member, "true or false", value)
    return value


def _write_boolean(value: bool, out: io.BytesIO) -> None:
    out.write(b"true" if value else b"false")


def _integer(member: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise _wrong(member, "an integer of 64 bits", value)
    return value


def _size(member: str, value: object) -> int:
    number = _integer(member, value)
    if number < 0:
        raise _wrong(member, "a number of bytes", value)
    return number


def _layer_id(member: str, value: object) -> str:
    if isinstance(value, str) and LAYER_ID.fullmatch(value):
        return value
    if not _text(member, value):
        raise MalformedRequestError(f"{member} is missing")
    raise _wrong(member, f"a layer's ID, {LAYER_ID.pattern}", value)


def _parent_id(member: str, value: object) -> str:
    return _layer_id(member, value) if value != "" else ""


def _home(member: str, value: object) -> str:
    text = _text(member, value)
    if not text:
        raise MalformedRequestError(f"{member} is missing")
    if not text.startswith("/") or "\0" in text or "/../" in text + "/":
        raise _wrong(member, "an absolute path without '..'", value)
    if len(text.encode()) > LONGEST_PATH:
        raise _wrong(member, f"a path of at most {LONGEST_PATH} bytes", value)
    return text


def _directory(member: str, value: object) -> str:
    text = _text(member, value)
    if not is_directory_path(text):
        raise _wrong(member, DIRECTORY_RULE, value)
    return text


def _list(member: str, value: object, item: Callable[[str, object], Any]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(member, "a list", value)
    return tuple(item(f"{member}[{n}]", one) for n, one in enumerate(value))


def _text_map(member: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _wrong(member, "an object of strings", value)
    return {_no_surrogates(key): _text(f"{member}.{key[:60]}", one) for key, one in value.items()}


_ID_MAP: Final = {
    "containerid": "container_id",
    "container_id": "container_id",
    "hostid": "host_id",
    "host_id": "host_id",
    "size": "size",
}


def _id_map(member: str, value: object) -> IDMap:
    if not isinstance(value, dict):
        raise _wrong(member, "an object", value)
    numbers = dict.fromkeys(_ID_MAP.values(), 0)
    for key, number in value.items():
        name = _ID_MAP.get(key.casefold())
        if name and number is not None:
            numbers[name] = _integer(f"{member}.{key}", number)
            if not 0 <= numbers[name] <= 2**32:
                raise _wrong(f"{member}.{key}", "between 0 and 2^32", number)
    return IDMap(**numbers)


def _pair(member: str, value: object) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong(member, "a list of two strings", value)
    return _text(member, value[0]), _text(member, value[1])


def _change(member: str, value: object) -> Change:
    if not isinstance(value, dict):
        raise _wrong(member, "an object", value)
    found = {key.casefold(): one for key, one in value.items()}
    kind = _integer(f"{member}.Kind", found.get("kind", 0))
    if kind not in (0, 1, 2):
        raise _wrong(f"{member}.Kind", "0, 1 or 2", kind)
    return Change(_text(f"{member}.Path", found.get("path", "")), ChangeKind(kind))


def _write_changes(changes: Iterable[Change], out: io.BytesIO) -> None:
    """Write a list of changes while the driver finds them, up to a limit."""
    # A path contains all names above it, so the list for a small, deep tree can fill the memory of the
    # plugin and the daemon.
    before = "["
    for change in changes:
        path = _quoted(_no_surrogates(change.path))
        out.write(f'{before}{{"Path":{path},"Kind":{change.kind:d}}}'.encode())
        before = ","
        if out.tell() > MOST_CHANGES_SIZE:
            raise UnsupportedError(
                f"the list of changes is over {MOST_CHANGES_SIZE >> 20} MiB",
                hint="read the changes as a tar instead (Diff, docker commit), or remove from the"
                " container what has long paths",
            )
    out.write(b"[]" if before == "[" else b"]")


def _capabilities(member: str, value: object) -> Capabilities:
    if not isinstance(value, dict):
        raise _wrong(member, "an object", value)
    found = {key.casefold(): one for key, one in value.items()}
    exact = found.get("reproducesexactdiffs")
    return Capabilities(exact is not None and _boolean(f"{member}.ReproducesExactDiffs", exact))


def _as_is(value: Any) -> Any:
    return value


TEXT = Codec(_text, _no_surrogates)
OPTIONAL_TEXT = Codec(_optional_text, _as_is)
"""A member of ours, which another plugin may use for something else: other types count as absent."""
BOOLEAN = Codec(_boolean, _as_is, _write_boolean)
SIZE = Codec(_size, _as_is)
LAYER = Codec(_layer_id, _as_is)
PARENT = Codec(_parent_id, _as_is)
HOME = Codec(_home, _as_is)
DIRECTORY = Codec(_directory, _no_surrogates)
TEXT_MAP = Codec(
    _text_map, lambda value: {_no_surrogates(k): _no_surrogates(v) for k, v in value.items()}
)
TEXTS = Codec(
    lambda member, value: _list(member, value, _text),
    lambda value: [_no_surrogates(one) for one in value],
)
ID_MAPS = Codec(
    lambda member, value: _list(member, value, _id_map),
    lambda maps: [dataclasses.asdict(one) for one in maps] or None,
)
PAIRS = Codec(
    lambda member, value: _list(member, value, _pair),
    lambda pairs: [[_no_surrogates(key), _no_surrogates(value)] for key, value in pairs],
)
CHANGES = Codec(lambda member, value: _list(member, value, _change), _as_is, _write_changes)
CAPABILITIES = Codec(
    _capabilities, lambda value: {"ReproducesExactDiffs": value.reproduces_exact_diffs}
)


class Message(Protocol):
    """Any message: a dataclass of fields that `json_member` declares."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


M = TypeVar("M", bound=Message)
_REQUIRED: Any = dataclasses.MISSING


def json_member(name: str, codec: Codec, default: Any = _REQUIRED) -> Any:
    """Declare a field: its name in JSON, its codec, and its default; without one it is required."""
    metadata = {"json": name, "codec": codec}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_JSON: Final = json.JSONEncoder(separators=(",", ":"))
_READER: Final = json.JSONDecoder()


class _Field(NamedTuple):
    """A field of a message.

    Attributes:
        name: its name.
        member: its name in JSON.
        folded: that name for a comparison in any letter case.
        key: what is written before its value.
        codec: reads and writes it.
        required: whether it has no default.
    """

    name: str
    member: str
    folded: str
    key: bytes
    codec: Codec
    required: bool


@functools.cache
def _shape(kind: type[Message]) -> list[_Field]:
    """Return the fields of a message."""
    found: list[_Field] = []
    for name, field in kind.__dataclass_fields__.items():
        member: str = field.metadata["json"]
        no_default = field.default is dataclasses.MISSING
        required = no_default and field.default_factory is dataclasses.MISSING
        key = b'%b"%b":' % (b"," if found else b"{", member.encode())
        found.append(
            _Field(name, member, member.casefold(), key, field.metadata["codec"], required)
        )
    return found


def encode(message: Message) -> bytes:
    """Write a message as JSON.

    Raises:
        UnsupportedError: a list of changes is longer than `MOST_CHANGES_SIZE`.
    """
    fields = _shape(type(message))
    if not fields:
        return b"{}"
    out = io.BytesIO()
    for name, _, _, key, codec, _ in fields:
        out.write(key)
        value = getattr(message, name)
        if codec.write:
            codec.write(value, out)
        else:
            out.write(_JSON.encode(codec.encode(value)).encode())
    out.write(b"}")
    return out.getvalue()


def decode(kind: type[M], body: bytes) -> M:
    """Read a message from JSON.

    Args:
        kind: the class of the message.
        body: the JSON; an empty body counts as an empty object.

    Raises:
        MalformedRequestError: it is not such a message; the text names the member and the rule.
    """
    members = read_members(body)
    try:
        return from_members(kind, members)
    except MalformedRequestError as error:
        if not body:
            error.hint = (
                "a daemon that repeats a call after a broken connection leaves the content out;"
                " try again"
            )
        raise


def read_members(body: bytes) -> dict[str, Any]:
    """Read the members of a JSON object.

    Raises:
        MalformedRequestError: it is not a JSON object.
    """
    try:
        value = _value(body.decode("utf-8", "surrogatepass")) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError(f"the body is not JSON: {error}") from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise _wrong("the body", "a JSON object", value)
    return value


def _value(text: str) -> Any:
    """Read a JSON value, in a third of the time that `json.JSONDecoder.decode` takes.

    Raises:
        ValueError: it is not one JSON value.
    """
    text = text.strip(" \t\n\r")
    value, end = _READER.raw_decode(text)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def from_members(kind: type[M], members: Mapping[str, Any]) -> M:
    """Make a message from members under their JSON names.

    Raises:
        MalformedRequestError: as for `decode`.
    """
    found: dict[str, Any] = {}
    folded = {key.casefold(): value for key, value in members.items() if value is not None}
    for name, member, key, _, codec, required in _shape(kind):
        value = folded.get(key)
        if value is not None:
            found[name] = codec.decode(member, value)
        elif required:
            raise MalformedRequestError(f"{member} is missing")
    return kind(**found)
