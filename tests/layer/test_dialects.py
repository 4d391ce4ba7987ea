from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.entry import EntryType
from graphdriver.layer.tar.reader import TarReader
from tests.layer.conftest import Layer

LONG = "/".join(["a-folder-with-a-long-name"] * 38) + "/file"  # about 1,000 bytes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with what the dialects say differently."""
    root = tmp_path / "tree"
    (root / "folder").mkdir(parents=True, mode=0o750)
    (root / "folder" / "file").write_bytes(b"content" * 1000)
    (root / "folder" / "link").symlink_to("file")
    os.link(root / "folder" / "file", root / "hard")
    os.mkfifo(root / "fifo")
    (root / "empty").write_bytes(b"")
    for path, time in (("empty", 1), ("folder/file", 1_700_000_000), ("fifo", 86400)):
        os.utime(root / path, (time, time))
    os.utime(root / "folder", (5, 5))
    return root


def compare(tree: Path, layer: Layer, names: list[str]) -> None:
    for name in names:
        wanted, found = os.lstat(tree / name), layer.stat(name)
        assert (name, found.st_mode, int(found.st_mtime)) == (
            name,
            wanted.st_mode,
            int(wanted.st_mtime),
        )
    assert layer.read("folder/file") == (tree / "folder/file").read_bytes()
    assert os.readlink(layer.path("folder/link")) == b"file"
    assert layer.stat("hard").st_ino == layer.stat("folder/file").st_ino


@pytest.mark.parametrize("dialect", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_gnu_tars_dialects(tree: Path, layer: Layer, dialect: str) -> None:
    names = ["folder", "folder/file", "hard", "empty"] + (["fifo"] if dialect != "v7" else [])
    data = subprocess.run(
        ["tar", f"--format={dialect}", "-C", str(tree), "-c", *names, "folder/link"],
        check=True,
        capture_output=True,
    ).stdout
    layer.unpack(data)
    compare(tree, layer, names)


@pytest.mark.parametrize("dialect", ["v7tar", "gnutar", "ustar", "pax"])
def test_bsdtars_dialects(tree: Path, layer: Layer, dialect: str) -> None:
    names = ["folder", "hard", "empty"] + (["fifo"] if dialect != "v7tar" else [])
    data = subprocess.run(
        ["bsdtar", f"--format={dialect}", "-C", str(tree), "-cf", "-", *names],
        check=True,
        capture_output=True,
    ).stdout
    layer.unpack(data)
    compare(tree, layer, names)


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pythons_dialects(tree: Path, layer: Layer, dialect: int) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=dialect) as archive:
        archive.add(tree, "")
    layer.unpack(stream.getvalue())
    compare(tree, layer, ["folder", "folder/file", "hard", "empty", "fifo"])


@pytest.mark.parametrize("dialect", ["gnu", "posix"])
def test_long_names_and_link_texts(tmp_path: Path, layer: Layer, dialect: str) -> None:
    tree = tmp_path / "tree"
    (tree / LONG).parent.mkdir(parents=True)
    (tree / LONG).write_bytes(b"far")
    (tree / "s").symlink_to(LONG)
    (tree / ("t" * 200)).write_bytes(b"t")
    os.link(tree / LONG, tree / "h")
    data = subprocess.run(
        ["tar", f"--format={dialect}", "-C", str(tree), "-c", "."], check=True, capture_output=True
    ).stdout
    layer.unpack(data)
    assert layer.read(LONG) == layer.read("s") == layer.read("h") == b"far"


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
    ids="-".join,
)
def test_sparse_files_arrive_and_stay_sparse(
    tmp_path: Path, layer: Layer, options: list[str]
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with open(tree / "sparse", "wb") as file:
        for block in range(60):
            file.seek(block * 1_000_000)
            file.write(b"data %d" % block)
        file.truncate(70_000_000)
    (tree / "after").write_bytes(b"after")
    data = subprocess.run(
        ["tar", *options, "--sparse", "-C", str(tree), "-c", "sparse", "after"],
        check=True,
        capture_output=True,
    ).stdout
    assert len(data) < 2_000_000
    unpacked = layer.unpack(data)
    assert unpacked.size == 70_000_000 + 5
    assert layer.names() == [b"after", b"sparse"]
    assert layer.read("sparse") == (tree / "sparse").read_bytes()
    assert layer.stat("sparse").st_blocks * 512 < 2_000_000


def test_bsdtars_attributes_arrive(tree: Path, layer: Layer) -> None:
    os.setxattr(tree / "empty", "user.a", b"\x00\xffvalue")
    os.setxattr(tree / "empty", "user.=odd name", b"")
    data = subprocess.run(
        ["bsdtar", "--format=pax", "--xattrs", "-C", str(tree), "-cf", "-", "empty"],
        check=True,
        capture_output=True,
    ).stdout
    layer.unpack(data)
    assert os.getxattr(layer.path("empty"), "user.a") == b"\x00\xffvalue"


def test_gnu_tars_attributes_arrive(tree: Path, layer: Layer) -> None:
    os.setxattr(tree / "empty", "user.a", b"\x00\xffvalue\n")
    data = subprocess.run(
        ["tar", "--xattrs", "--format=posix", "-C", str(tree), "-c", "empty"],
        check=True,
        capture_output=True,
    ).stdout
    layer.unpack(data)
    assert os.getxattr(layer.path("empty"), "user.a") == b"\x00\xffvalue\n"


def test_attributes_in_libarchives_own_spelling_arrive(layer: Layer) -> None:
    value = base64.b64encode(b"\0value").rstrip(b"=")
    layer.unpack(tars.tar(tars.pax([(b"LIBARCHIVE.xattr.user.a%3Db", value)]), tars.file(b"f")))
    assert os.getxattr(layer.path("f"), "user.a=b") == b"\0value"


@pytest.mark.parametrize(
    ("said", "nanoseconds"),
    [
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"-0.000000001", -1),
        (b"1234567890.123456789", 1234567890_123456789),
        (b"1234567890.1234567899", 1234567890_123456789),
        (b"7.", 7_000_000_000),
    ],
)
def test_times_are_kept_to_the_nanosecond_also_before_1970(
    layer: Layer, said: bytes, nanoseconds: int
) -> None:
    header = tars.pax([(b"mtime", said)])
    layer.unpack(
        tars.tar(
            header, tars.file(b"f"), header, tars.directory(b"d"), header, tars.symlink(b"s", b"x")
        )
    )
    assert [layer.stat(n).st_mtime_ns for n in "fds"] == [nanoseconds] * 3


def test_numbers_in_base_256(layer: Layer) -> None:
    layer.unpack(
        tars.tar(tars.file(b"f", uid=3_000_000_000, gid=2_100_000, mtime=-5, magic=tars.GNU))
    )
    found = layer.stat("f")
    assert (found.st_uid, found.st_gid, found.st_mtime) == (3_000_000_000, 2_100_000, -5)


def test_ids_that_only_pax_can_say(layer: Layer) -> None:
    layer.unpack(
        tars.tar(tars.pax([(b"uid", b"4000000000"), (b"gid", b"2097153")]), tars.file(b"f"))
    )
    assert (layer.stat("f").st_uid, layer.stat("f").st_gid) == (4000000000, 2097153)


def test_the_prefix_of_ustar_and_star_belongs_to_the_name_and_gnus_times_do_not(
    layer: Layer,
) -> None:
    times = b"%011o\0" % 1_700_000_000 * 2
    layer.unpack(
        tars.tar(
            tars.file(b"a", prefix=b"ustar"),
            tars.file(b"b", prefix=b"star".ljust(131, b"\0") + times, tail=b"\0" * 8 + b"tar\0"),
            tars.file(b"b", prefix=b"s" * 131 + times, tail=b"\0" * 8 + b"tar\0"),
            tars.file(b"c", prefix=times, magic=tars.GNU),
            tars.file(b"d", prefix=b"old-go", magic=tars.GNU),
            tars.file(b"e", prefix=b"none", magic=tars.V7),
        )
    )
    names = [b"c", b"e", b"old-go", b"old-go/d", b"s" * 131, b"s" * 131 + b"/b"]
    names += [b"star", b"star/b", b"ustar", b"ustar/a"]
    assert layer.names() == names


def test_a_v7_name_with_a_slash_at_its_end_is_a_folder(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.header(b"d/", b"\0", mode=0o755, magic=tars.V7)))
    assert os.path.isdir(layer.path("d"))


def test_checksums_of_signed_bytes_are_taken(layer: Layer) -> None:
    block = tars.header(b"\xff\xfe")
    signed = sum(b - 256 if b > 127 else b for b in block[:148] + block[156:]) + 256
    layer.unpack(tars.tar(block[:148] + b"%06o\0 " % signed + block[156:]))
    assert layer.names() == [b"\xff\xfe"]


@pytest.mark.parametrize("change", [1, -1, 65521, -65521])
def test_a_wrong_checksum_is_an_error(layer: Layer, change: int) -> None:
    block = tars.header(b"\xff" * 100, link=b"\xff" * 100, prefix=b"\xff" * 155)
    total = int(block[148:154], 8) + change
    with pytest.raises(BadArchiveError, match="checksum"):
        layer.unpack(tars.tar(block[:148] + b"%06o\0 " % max(total, 0) + block[156:]))


def test_an_empty_record_leaves_what_the_header_says(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.pax([(b"path", b""), (b"size", b"")]), tars.file(b"f", b"1234")))
    assert layer.read("f") == b"1234"


def test_the_last_of_two_records_counts(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.pax([(b"path", b"a"), (b"path", b"b")]), tars.file(b"f")))
    assert layer.names() == [b"b"]


def test_global_headers_say_times_owners_and_attributes_but_no_names_or_sizes(
    layer: Layer,
) -> None:
    told = [
        (b"mtime", b"99.5"),
        (b"uid", b"7"),
        (b"path", b"evil"),
        (b"size", b"0"),
        (b"comment", b"x"),
        (b"SCHILY.xattr.user.g", b"1"),
    ]
    layer.unpack(
        tars.tar(
            tars.pax(told, b"g"),
            tars.file(b"a", b"1234"),
            tars.pax([(b"uid", b"8")]),
            tars.file(b"b", b"1234"),
        )
    )
    assert layer.names() == [b"a", b"b"]
    assert layer.read("a") == b"1234"
    assert [layer.stat(n).st_mtime for n in "ab"] == [99.5, 99.5]
    assert [layer.stat(n).st_uid for n in "ab"] == [7, 8]
    assert os.getxattr(layer.path("b"), "user.g") == b"1"


def test_an_extended_headers_size_wins_and_belongs_to_the_file_only(layer: Layer) -> None:
    hidden = tars.file(b"hidden", b"x" * 512)
    layer.unpack(
        tars.tar(
            tars.pax([(b"size", b"%d" % len(hidden))]),
            tars.gnu_long(b"L", b"outer"),
            tars.header(b"", size=0) + hidden,
            tars.file(b"last"),
        )
    )
    assert layer.names() == [b"last", b"outer"]
    assert layer.read("outer") == hidden


def test_folders_and_links_have_no_data_whatever_their_size_says(layer: Layer) -> None:
    layer.unpack(
        tars.tar(
            tars.directory(b"d", size=4096),
            tars.header(b"s", b"2", size=512, link=b"x"),
            tars.file(b"f"),
        )
    )
    assert layer.names() == [b"d", b"f", b"s"]


def test_contiguous_files_are_files(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.header(b"f", b"7", size=3) + tars.padded(b"abc")))
    assert layer.read("f") == b"abc"


def test_large_device_numbers_in_schilys_records(layer: Layer) -> None:
    numbers = [(b"SCHILY.devmajor", b"4095"), (b"SCHILY.devminor", b"1048575")]
    layer.unpack(tars.tar(tars.pax(numbers), tars.header(b"c", b"3")))
    assert layer.stat("c").st_rdev == os.makedev(4095, 1048575)


def test_the_reader_gives_entries_and_their_data_and_leaves_out_what_is_not_read() -> None:
    reader = TarReader(
        io.BytesIO(tars.tar(tars.file(b"a", b"x" * 1000), tars.directory(b"b"), tars.file(b"c")))
    )
    seen = []
    for entry in reader:
        data = b"".join(reader.data(2)) if entry.name == b"a" else b""
        seen.append((entry.name, entry.type, entry.size, data))
    assert seen == [
        (b"a", EntryType.FILE, 1000, b"xx"),
        (b"b", EntryType.DIRECTORY, 0, b""),
        (b"c", EntryType.FILE, 4, b""),
    ]


def test_whether_an_old_entry_is_a_folder_is_told_by_its_whole_name(layer: Layer) -> None:
    cut_at_a_slash = b"d/" * 50
    layer.unpack(
        tars.tar(
            tars.pax([(b"path", cut_at_a_slash + b"file")]),
            tars.header(cut_at_a_slash, b"\0", size=4, magic=tars.V7) + tars.padded(b"data"),
            tars.pax([(b"path", b"folder/")]),
            tars.header(b"folder", b"\0", size=512, mode=0o755, magic=tars.V7),
            tars.file(b"last"),
        )
    )
    assert layer.read(cut_at_a_slash + b"file") == b"data"
    assert os.path.isdir(layer.path("folder"))
    assert layer.read("last") == b"data"


@pytest.mark.parametrize(
    "mode", [b"0000644\0", b"   644 \0", b"644\0    ", b"00000644", b"    644 ", b" 644\0\0\0\0"]
)
def test_numbers_are_read_however_old_programs_filled_their_fields(
    layer: Layer, mode: bytes
) -> None:
    block = bytearray(tars.header(b"f", mtime=0))
    block[100:108] = mode
    block[136:148] = b" 7777777777 "
    layer.unpack(tars.tar(tars.checked(bytes(block))))
    found = layer.stat("f")
    assert (found.st_mode & 0o7777, found.st_mtime) == (0o644, 0o7777777777)


def test_an_empty_number_is_nought(layer: Layer) -> None:
    block = bytearray(tars.header(b"f"))
    block[108:124] = bytes(8) + b" " * 8
    layer.unpack(tars.tar(tars.checked(bytes(block))))
    assert (layer.stat("f").st_uid, layer.stat("f").st_gid) == (0, 0)


ODD_NAMES = [
    b"\xff\xfe/" + b"\x80" * 120,
    b"new\nline/" + b"\n" * 120,
    b"x" * 255 + b"/" + b"y" * 255 + b"/" + b"z" * 255 + b"/" + b"\xe4" * 235,
    b"27 path=evil\n/" + b"=" * 120,
]


@pytest.mark.parametrize(
    "command",
    [
        ["tar", "--format=gnu", "-cf", "-"],
        ["tar", "--format=posix", "-cf", "-"],
        ["bsdtar", "--format=gnutar", "-cf", "-"],
        ["bsdtar", "--format=pax", "-cf", "-"],
    ],
    ids=lambda command: f"{command[0]} {command[1].removeprefix('--format=')}",
)
def test_odd_names_arrive_byte_for_byte(tmp_path: Path, layer: Layer, command: list[str]) -> None:
    tree = os.fsencode(tmp_path / "tree")
    for name in ODD_NAMES:
        os.makedirs(os.path.join(tree, os.path.dirname(name)))
        with open(os.path.join(tree, name), "wb") as file:
            file.write(name)
        os.symlink(name, os.path.join(tree, os.path.dirname(name), b"link"))
    data = subprocess.run([*command, "."], cwd=tree, check=True, capture_output=True).stdout
    layer.unpack(data)
    for name in ODD_NAMES:
        assert layer.read(name) == name
        assert os.readlink(layer.path(os.path.join(os.path.dirname(name), b"link"))) == name


def test_pythons_odd_names_arrive_byte_for_byte(layer: Layer) -> None:
    for dialect in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=dialect) as archive:
            for name in ODD_NAMES:
                entry = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
                entry.size = len(name)
                archive.addfile(entry, io.BytesIO(name))
        layer.unpack(stream.getvalue())
        assert all(layer.read(name) == name for name in ODD_NAMES)


@pytest.mark.parametrize("dialect", ["gnu", "posix"])
def test_owners_too_big_for_octal_arrive(tmp_path: Path, layer: Layer, dialect: str) -> None:
    (tmp_path / "f").touch()
    data = subprocess.run(
        ["tar", f"--format={dialect}", "--owner=:2097152", "--group=:4294967294", "-c", "f"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    ).stdout
    layer.unpack(data)
    assert (layer.stat("f").st_uid, layer.stat("f").st_gid) == (2097152, 4294967294)


@pytest.mark.parametrize("time", ["-1", "-1000000000", "0", "8589934592"])
@pytest.mark.parametrize("dialect", ["gnu", "posix"])
def test_times_too_early_or_late_for_octal_arrive(
    tmp_path: Path, layer: Layer, dialect: str, time: str
) -> None:
    (tmp_path / "f").touch()
    data = subprocess.run(
        ["tar", f"--format={dialect}", f"--mtime=@{time}", "-c", "f"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    ).stdout
    layer.unpack(data)
    assert layer.stat("f").st_mtime_ns == int(time) * 1_000_000_000


def test_records_that_say_nothing_a_layer_keeps_do_no_harm(layer: Layer) -> None:
    told = [
        (b"atime", b"1.5"),
        (b"ctime", b"2"),
        (b"uname", b"nobody"),
        (b"gname", b"\xff"),
        (b"comment", b"=\n="),
        (b"charset", b"ISO-IR 10646 2000 UTF-8"),
        (b"hdrcharset", b"BINARY"),
        (b"LIBARCHIVE.creationtime", b"3"),
        (b"SCHILY.ino", b"7"),
        (b"SCHILY.nlink", b"9"),
        (b"SCHILY.fflags", b"nodump"),
        (b"RHT.security.selinux", b"u:object_r:t:s0"),
        (b"VENDOR.anything", b""),
    ]
    layer.unpack(tars.tar(tars.pax(told), tars.file(b"f"), tars.file(b"g")))
    assert layer.names() == [b"f", b"g"]
    assert os.listxattr(layer.path("f")) == []


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1024), bytes(1024 + 100), bytes(20 * 512)])
def test_a_tar_ends_where_a_header_could_begin(layer: Layer, end: bytes) -> None:
    layer.unpack(tars.file(b"f") + tars.directory(b"d") + end)
    assert layer.names() == [b"d", b"f"]
