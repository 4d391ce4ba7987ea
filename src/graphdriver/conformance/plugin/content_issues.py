"""Why it is checked what layers hold: what daemons do with it, and what became of it elsewhere.

See `graphdriver.conformance.plugin.issues` for what a reference is.
"""

from __future__ import annotations

from typing import Final

from graphdriver.conformance.kit.case import Reason

_MOBY = "https://github.com/moby/moby/issues/"
_SPEC = "OCI image-spec, layer.md, "

# Layers upon layers.

CHILD_IS_A_SNAPSHOT: Final = Reason(
    "A container sees its image, and its image never sees it: hundreds of them stand on one layer.",
    (f'{_SPEC}"Populate a Comparison Filesystem"',),
)
ROOT_FOLDER: Final = Reason(
    "An image says who may enter and change its root folder; a driver that forgets it opens or closes "
    "the container to all but root.",
    (
        "https://github.com/containers/storage/pull/120",
        "https://github.com/rkt/rkt/pull/678",
    ),
)
LONG_CHAINS: Final = Reason(
    "A daemon takes images of up to 125 layers, and mount options that are longer than a page break "
    "those that nobody tried.",
    (f"{_MOBY}26380", "https://github.com/moby/buildkit/issues/4810"),
)
LONGER_CHAINS: Final = Reason(
    "A daemon refuses more than 125 layers; what else keeps its layers with the driver may have more.",
    (f"{_MOBY}26380", "https://github.com/cri-o/cri-o/issues/6261"),
)

# Written through Get.

BUILDKIT: Final = Reason(
    "BuildKit, Docker's builder, makes a layer with Create, Gets it, runs a container in its "
    "folder and Puts it; then it asks for DiffSize, and for the Diff at the export. It never calls "
    "ApplyDiff.",
)
COMMIT_OF_THE_RUNNING: Final = Reason(
    "docker commit Gets a layer that its container still writes to, and asks for its Diff meanwhile.",
)

# Diff and ApplyDiff.

LAYERS_TRAVEL: Final = Reason(
    "docker commit and each COPY of a build read a Diff and apply it to a new layer; what is lost "
    "on the way is lost in the image.",
    (f'{_SPEC}"File Attributes"',),
)
SAME_DIGEST: Final = Reason(
    "BuildKit asks for the Diff of a layer several times and compares digests: one other byte, and a "
    "build fails or nothing is ever found in its cache.",
    (f"{_MOBY}21555", "https://github.com/moby/buildkit/issues/3168"),
)
ANY_ANCESTOR: Final = Reason(
    "A daemon asks for what changed since any layer below, or since nothing: a container's layer is "
    "compared with that below its own init layer.",
)
EMPTY_LAYERS: Final = Reason(
    "Steps of a build that change nothing make layers of no bytes, or of zeros alone.",
    ("https://github.com/moby/moby/pull/18226", f"{_MOBY}20917"),
)
READERS_GO_AWAY: Final = Reason(
    "A build that is stopped leaves its Diff unread; the layer must not stay in use.",
)
EXACT_DIFFS: Final = Reason(
    "A daemon that is told so asks for Diff at save and push, and the image's digest is that of "
    "the tar which came: any other byte breaks it.",
)
DIALECTS: Final = Reason(
    "A daemon hands on the tar of a layer as whoever made the image wrote it: Go, GNU tar, bsdtar, "
    "Python, Java, in each of the formats that there are.",
    ("https://github.com/dragonflyoss/nydus/pull/1391",),
)
PAX_SIZE: Final = Reason(
    "Where a size is said twice, a reader that takes the wrong one reads a file's content as entries.",
    ("CVE-2025-62518",),
)
SPARSE: Final = Reason(
    "A file's holes may be left out of a tar; a reader that does not know it shifts the content.",
    (f"{_MOBY}5419",),
)
OVER_THE_EXISTING: Final = Reason(
    "An entry over a folder that exists describes it anew and leaves what is in it; over anything "
    "else, it takes its place.",
    (f'{_SPEC}"Changeset over existing files"', "https://github.com/hpc/charliecloud/issues/825"),
)
ANY_ORDER: Final = Reason(
    "Nothing says that a folder comes before what is in it; images are in use in which it does not.",
    ("https://github.com/GoogleContainerTools/container-diff/pull/98",),
)
MISSING_PARENTS: Final = Reason(
    "Images are in use whose layers leave folders out; containers that run as somebody else than root "
    "must be able to pass through them.",
    (
        "https://github.com/containerd/containerd/issues/3017",
        "https://github.com/containers/storage/issues/1288",
        f"{_MOBY}53257",
    ),
)

# Changes and sizes.

DOCKER_DIFF: Final = Reason(
    "docker diff shows Changes as they come; nothing is filtered or added.",
    (f"{_MOBY}23021", f"{_MOBY}37880"),
)
UNSEEN_CHANGES: Final = Reason(
    "Package managers and reproducible builds set the same times on every file; a driver that compares "
    "size and time alone loses such changes from the image.",
    (f"{_MOBY}8242", f"{_MOBY}31805"),
)
SIZES: Final = Reason(
    "docker ps -s, docker images and docker history show these numbers.",
    ("https://github.com/moby/moby/pull/2304", f"{_MOBY}9283"),
)

# What a tar deletes.

WHITEOUTS: Final = Reason(
    "What an image deletes, a password perhaps, must be gone; and nothing else.",
    (f'{_SPEC}"Whiteouts"', "https://github.com/containers/fuse-overlayfs/issues/151"),
)
OPAQUE: Final = Reason(
    "A folder that was deleted and made anew in one step must not show what was in the old one.",
    (
        f'{_SPEC}"Opaque Whiteout"',
        f"{_MOBY}32354",
        "https://github.com/opencontainers/image-spec/issues/144",
    ),
)
AUFS: Final = Reason(
    "Images from the days of AUFS hold its own files, and links to files that it had put aside.",
    ("https://github.com/moby/moby/pull/4178",),
)

# Links.

HARD_LINKS: Final = Reason(
    "Packages such as git hold one file under a hundred names; as a hundred files, an image is a "
    "hundred times as large.",
    (f'{_SPEC}"Hardlinks"', f"{_MOBY}5632", f"{_MOBY}48140"),
)
LINKS_AS_IN_A_CHROOT: Final = Reason(
    "Some builders of images write a hard link's target as an absolute path, or through a symbolic "
    "link; it is meant from the layer's own root.",
    ("https://github.com/moby/go-archive/issues/99",),
)
NAMES_OF_ONE_FILE: Final = Reason(
    "A layer that brings a file anew brings one name; its other names below keep what they were.",
    (
        f'{_SPEC}"Changeset over existing files"',
        "https://github.com/google/go-containerregistry/issues/2002",
    ),
)
SYMBOLIC_LINKS: Final = Reason(
    "A symbolic link's text is for the container; on the host it leads to the host's own files.",
    ("https://github.com/oracle/smith/pull/7",),
)

# Attributes, types, names.

MODES: Final = Reason(
    "sudo and su are what they are by their set-user-ID bit, which every later chown takes away.",
    ("https://github.com/opencontainers/umoci/issues/166", f"{_MOBY}36239"),
)
CAPABILITIES: Final = Reason(
    "ping and many a server may do what they do by file capabilities alone.",
    (f"{_MOBY}42655", "https://github.com/moby/moby/pull/3845"),
)
ATTRIBUTES: Final = Reason(
    "An image may hold extended attributes for the kernel or for programs in it.",
    (f'{_SPEC}"File Attributes"', f"{_MOBY}35699", f"{_MOBY}43882"),
)
TIMES: Final = Reason(
    "Compilers' caches compare times to the nanosecond; a build step that finds other times than the "
    "one before left does its work again.",
    (f"{_MOBY}40004", "https://github.com/GoogleContainerTools/kaniko/issues/1808"),
)
FOLDERS_TIMES: Final = Reason(
    "What is put into a folder changes its time, long after its own entry was read.",
    ("https://github.com/microsoft/hcsshim/pull/832", f"{_MOBY}17175"),
)
SPECIAL_FILES: Final = Reason(
    "Images of whole systems bring /dev with them.", (f'{_SPEC}"File Types"',)
)
SOCKETS: Final = Reason(
    "A build that leaves a socket behind, of an agent perhaps, must not fail: no tar can hold one.",
    ("https://github.com/containerd/containerd/pull/2222",),
)
NAMES: Final = Reason(
    "A name on Linux is bytes, up to 255 of them, none of which is a slash or zero; images hold such.",
    (f"{_MOBY}16516", "https://github.com/vbatts/tar-split/pull/18"),
)
DELETES_ALL: Final = Reason(
    "A mark of a deletion that is a device or a longer name cannot stand for every device and every "
    "name; rm fails then in a container.",
)
ID_MAPS: Final = Reason(
    "With --userns-remap a container's root is user 100000 on disk; a file with another owner than "
    "that is nobody's in the container.",
    (f"{_MOBY}39169",),
)
UNMAPPED: Final = Reason(
    "An owner that no map holds cannot be kept; a daemon's user must be told, and of which.",
    ("https://github.com/GoogleContainerTools/distroless/issues/313",),
)
