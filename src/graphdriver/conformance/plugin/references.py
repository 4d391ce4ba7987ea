"""The reason for each case: what daemons do, and what happened to drivers that did not expect it.

What daemons do was recorded from Docker 20.10.24 and 27.5.1. A reference is an issue in a tracker, a
security advisory or a section of a specification.
"""

from __future__ import annotations

from typing import Final

from graphdriver.conformance.kit.case import Reason

_API: Final = "Docker Engine documentation, Docker plugin API"
_DRIVER_API: Final = "Docker Engine documentation, Docker graph driver plugins"
_MOBY: Final = "https://github.com/moby/moby/issues/"
_SPEC: Final = "OCI image-spec, layer.md, "

# --- how a daemon speaks --------------------------------------------------------------------------

HANDSHAKE: Final = Reason(
    "The daemon sends Activate first. It ignores a plugin whose response does not list GraphDriver.",
    (_API,),
)
EMPTY_HOST: Final = Reason(
    "Docker 20.10.24 as Debian builds it sends an empty Host header with every call. A server that "
    "rejects it is no plugin for this daemon.",
)
KEPT_CONNECTION: Final = Reason(
    "Daemons keep two or three connections and use them again. A JSON call that is sent while the "
    "plugin closes an idle connection is lost: the daemon repeats it with an empty body.",
)
EMPTY_MEMBERS: Final = Reason(
    "Daemons leave empty members out of their JSON, and send null for empty lists and maps.",
)
GO_JSON: Final = Reason(
    "Go's JSON decoder, which the first plugins used, accepts member names in any letter case.",
)
ACCEPTS_EVERY_200: Final = Reason(
    "A daemon writes every byte that follows a status of 200 into the layer: an error text becomes "
    "the layer.",
)
UNKNOWN_CALL: Final = Reason(
    "To a daemon, 404 for Capabilities means 'all defaults', and 200 for a call that the plugin "
    "does not know means success.",
)
SHOWN_TO_USERS: Final = Reason(
    "A daemon shows the plugin's error to its user, word for word. A bare errno does not say which "
    "layer is meant or what to do.",
)
ALIVE: Final = Reason(
    "When a plugin dies, the daemon's images are out of reach: every later call fails until "
    "somebody starts the plugin again.",
)

# --- homes ----------------------------------------------------------------------------------------

DAEMON_RESTART: Final = Reason(
    "Each time a daemon starts it sends Init again, with the same home and all its layers in it.",
    (_DRIVER_API,),
)
MANAGED_HOME: Final = Reason(
    "A managed plugin with a propagatedMount gets a home such as /mnt/org/name:tag. The parent of "
    "that directory does not exist, and overlayfs separates lower directories by colons.",
)
ID_MAP_SPELLINGS: Final = Reason(
    "The documentation writes ContainerID, HostID and Size; daemons send container_id, host_id and "
    "size.",
    (_DRIVER_API,),
)
UNKNOWN_OPTION: Final = Reason(
    "A user who mistypes a --storage-opt believes that it is set. Docker's own drivers reject "
    "unknown options.",
)

# --- the life of a layer --------------------------------------------------------------------------

LIFE_OF_A_LAYER: Final = Reason(
    "A daemon keeps its own list of layers and relies on the plugin's list being the same.",
    (_DRIVER_API,),
)
REMOVE_IS_REPEATED: Final = Reason(
    "A daemon repeats a Remove whose response it did not receive, and reports an error as a layer "
    "that cannot be deleted.",
    (_DRIVER_API,),
)
MOUNTED_AT_REMOVE: Final = Reason(
    "A daemon that is killed sends no Put for its mounted layers; the next daemon removes those "
    "layers.",
    ("https://github.com/moby/moby/issues/22260",),
)
GETS_NEST: Final = Reason(
    "A daemon sends Get to run a container, and again to copy from it, commit it or inspect it. The"
    " first Put must not unmount the directory for the others.",
)

# --- chains of layers -----------------------------------------------------------------------------

CHILD_IS_A_SNAPSHOT: Final = Reason(
    "A container sees its image, and the image never sees the container. Hundreds of containers "
    "share one layer.",
    (f'{_SPEC}"Populate a Comparison Filesystem"',),
)
ROOT_DIRECTORY: Final = Reason(
    "An image defines who may enter and change its root directory. A driver that forgets this opens"
    " the container to everybody, or closes it to everybody but root.",
    (
        "https://github.com/containers/storage/pull/120",
        "https://github.com/rkt/rkt/pull/678",
    ),
)
LONG_CHAINS: Final = Reason(
    "A daemon accepts images of up to 125 layers. Mount options that are longer than a page break "
    "drivers that were tested with few layers only.",
    (f"{_MOBY}26380", "https://github.com/moby/buildkit/issues/4810"),
)
LONGER_CHAINS: Final = Reason(
    "A daemon rejects more than 125 layers. Other users of the driver may have more.",
    (f"{_MOBY}26380", "https://github.com/cri-o/cri-o/issues/6261"),
)

# --- written through Get --------------------------------------------------------------------------

BUILDKIT: Final = Reason(
    "BuildKit, Docker's builder, sends Create and Get, runs a container in the directory and sends "
    "Put. It then asks for DiffSize, and at the export for the Diff. It never sends ApplyDiff.",
)
COMMIT_OF_THE_RUNNING: Final = Reason(
    "docker commit sends Get for a layer that its container still writes to, and asks for the "
    "layer's Diff at the same time.",
)

# --- Diff and ApplyDiff ---------------------------------------------------------------------------

LAYERS_TRAVEL: Final = Reason(
    "docker commit, and each COPY of a build, reads a Diff and applies it to a new layer. Whatever "
    "is lost on the way is lost in the image.",
    (f'{_SPEC}"File Attributes"',),
)
SAME_DIGEST: Final = Reason(
    "BuildKit asks for a layer's Diff several times and compares digests. One different byte makes "
    "the build fail, or its cache useless.",
    (f"{_MOBY}21555", "https://github.com/moby/buildkit/issues/3168"),
)
ANY_ANCESTOR: Final = Reason(
    "A daemon asks for the changes since any layer below, or since no layer. For example, it "
    "compares a container's layer with the layer below the container's init layer.",
)
EMPTY_LAYERS: Final = Reason(
    "Build steps that change nothing produce layers of no bytes, or of zeros alone.",
    ("https://github.com/moby/moby/pull/18226", f"{_MOBY}20917"),
)
READERS_GO_AWAY: Final = Reason(
    "A build that is cancelled leaves its Diff unread. The layer must not stay in use.",
)
EXACT_DIFFS: Final = Reason(
    "A daemon asks such a plugin for the Diff at save and push, and expects the tar that was "
    "applied: any different byte breaks the image's digest.",
)
DIALECTS: Final = Reason(
    "A daemon passes a layer's tar on as the image's author wrote it: by Go, GNU tar, bsdtar, "
    "Python or Java, in any tar format.",
    ("https://github.com/dragonflyoss/nydus/pull/1391",),
)
PAX_SIZE: Final = Reason(
    "An entry may state its size twice. A reader that uses the wrong one reads a file's content as "
    "entries.",
    ("CVE-2025-62518",),
)
SPARSE: Final = Reason(
    "A tar may leave out the holes of a file. A reader that does not know this shifts the content.",
    (f"{_MOBY}5419",),
)
OVER_THE_EXISTING: Final = Reason(
    "A directory entry over an existing directory changes the directory's attributes and keeps its "
    "content. In all other cases the entry replaces what exists.",
    (f'{_SPEC}"Changeset over existing files"', "https://github.com/hpc/charliecloud/issues/825"),
)
ANY_ORDER: Final = Reason(
    "No rule says that a directory comes before its content, and images exist in which it does not.",
    ("https://github.com/GoogleContainerTools/container-diff/pull/98",),
)
MISSING_PARENTS: Final = Reason(
    "Images exist whose layers leave directories out. Containers that do not run as root must be "
    "able to pass through them.",
    (
        "https://github.com/containerd/containerd/issues/3017",
        "https://github.com/containers/storage/issues/1288",
        f"{_MOBY}53257",
    ),
)

# --- changes and sizes ----------------------------------------------------------------------------

DOCKER_DIFF: Final = Reason(
    "docker diff shows Changes unfiltered and in the order of the response.",
    (f"{_MOBY}23021", f"{_MOBY}37880"),
)
UNSEEN_CHANGES: Final = Reason(
    "Package managers and reproducible builds set the same times on every file. A driver that "
    "compares only size and time loses such changes.",
    (f"{_MOBY}8242", f"{_MOBY}31805"),
)
SIZES: Final = Reason(
    "docker ps -s, docker images and docker history show these numbers.",
    ("https://github.com/moby/moby/pull/2304", f"{_MOBY}9283"),
)

# --- whiteouts ------------------------------------------------------------------------------------

WHITEOUTS: Final = Reason(
    "A file that an image deletes, such as a password, must be gone, and no other file with it.",
    (f'{_SPEC}"Whiteouts"', "https://github.com/containers/fuse-overlayfs/issues/151"),
)
OPAQUE: Final = Reason(
    "A directory that is deleted and created again in one build step must not show the content of "
    "the old one.",
    (
        f'{_SPEC}"Opaque Whiteout"',
        f"{_MOBY}32354",
        "https://github.com/opencontainers/image-spec/issues/144",
    ),
)
AUFS: Final = Reason(
    "Images from the time of AUFS hold its internal files, and links to files that it had moved "
    "away.",
    ("https://github.com/moby/moby/pull/4178",),
)

# --- links ----------------------------------------------------------------------------------------

HARD_LINKS: Final = Reason(
    "Packages such as git hold one file under a hundred names. Stored as a hundred files, the image"
    " is a hundred times as large.",
    (f'{_SPEC}"Hardlinks"', f"{_MOBY}5632", f"{_MOBY}48140"),
)
LINKS_AS_IN_A_CHROOT: Final = Reason(
    "Some image builders write a hard link's target as an absolute path, or through a symbolic "
    "link. Both start at the layer's own root.",
    ("https://github.com/moby/go-archive/issues/99",),
)
NAMES_OF_ONE_FILE: Final = Reason(
    "A layer that replaces a file replaces one of its names. The file's other names below keep "
    "their content.",
    (
        f'{_SPEC}"Changeset over existing files"',
        "https://github.com/google/go-containerregistry/issues/2002",
    ),
)
SYMBOLIC_LINKS: Final = Reason(
    "A symbolic link's target is a path inside the container. On the host the same path leads to "
    "the host's own files.",
    ("https://github.com/oracle/smith/pull/7",),
)

# --- attributes, types, names ---------------------------------------------------------------------

MODES: Final = Reason(
    "sudo and su work through their set-user-ID bit, which every later chown clears.",
    ("https://github.com/opencontainers/umoci/issues/166", f"{_MOBY}36239"),
)
CAPABILITIES: Final = Reason(
    "ping, and many a server, works through file capabilities alone.",
    (f"{_MOBY}42655", "https://github.com/moby/moby/pull/3845"),
)
ATTRIBUTES: Final = Reason(
    "An image may hold extended attributes for the kernel or for its own programs.",
    (f'{_SPEC}"File Attributes"', f"{_MOBY}35699", f"{_MOBY}43882"),
)
TIMES: Final = Reason(
    "Compiler caches compare times to the nanosecond. A build step that finds times other than "
    "those that the step before wrote does its work again.",
    (f"{_MOBY}40004", "https://github.com/GoogleContainerTools/kaniko/issues/1808"),
)
TIMES_OF_DIRECTORIES: Final = Reason(
    "Writing into a directory changes the directory's time, long after its own entry was read.",
    ("https://github.com/microsoft/hcsshim/pull/832", f"{_MOBY}17175"),
)
SPECIAL_FILES: Final = Reason(
    "Images of whole systems contain /dev.",
    (f'{_SPEC}"File Types"',),
)
SOCKETS: Final = Reason(
    "A build that leaves a socket behind, such as an agent's, must not fail. A tar cannot hold a "
    "socket.",
    ("https://github.com/containerd/containerd/pull/2222",),
)
NAMES: Final = Reason(
    "On Linux a name is up to 255 bytes of any value but slash and zero. Images with such names "
    "exist.",
    (f"{_MOBY}16516", "https://github.com/vbatts/tar-split/pull/18"),
)
DELETES_ALL: Final = Reason(
    "A driver that marks a deletion by a device, or by a longer name, cannot mark the deletion of "
    "every device and every name. rm then fails in a container.",
)
ID_MAPS: Final = Reason(
    "With --userns-remap a container's root is user 100000 on disk. In the container, a file with "
    "an unmapped owner belongs to nobody.",
    (f"{_MOBY}39169",),
)
UNMAPPED: Final = Reason(
    "An owner that no map contains cannot be stored. The daemon's user must learn which owner it "
    "is.",
    ("https://github.com/GoogleContainerTools/distroless/issues/313",),
)

# --- calls that break off, and repeated calls -----------------------------------------------------

SENT_AGAIN: Final = Reason(
    "A daemon repeats a call whose connection broke after 1, 2, 4 and 8 s. The body was consumed "
    "before, so the call arrives with Content-Length 0. A status of 200 tells the daemon that the "
    "call was done.",
)
BROKEN_TRANSFER: Final = Reason(
    "When the transfer of a layer breaks off, the daemon repeats ApplyDiff with a body that breaks "
    "off at once; then it sends Remove and starts again. A half layer that the plugin accepts "
    "survives every later pull.",
)
TAIL: Final = Reason(
    "For a driver that reports ReproducesExactDiffs the repeated body is a well-formed tail of the "
    "tar. No parser can detect that, so a layer must accept one ApplyDiff only.",
)
EMPTY_LAYER: Final = Reason(
    "docker import of an empty file, and layers of zero bytes, send a complete body without "
    "entries.",
)
CHUNKS: Final = Reason(
    "Daemons send a layer in chunks of 512 bytes to 32 KiB, which may end anywhere, also within a "
    "header.",
)
OTHER_CLIENTS: Final = Reason(
    "Clients other than Go's know the length of a body and send it.",
)
READER_GONE: Final = Reason(
    "A commit, build or push that is cancelled leaves a Diff unread. The layer must not stay in "
    "use.",
)
EARLY_RESPONSE: Final = Reason(
    "Docker 20.10.24 can crash (index out of range, in compress/flate) when the response to "
    "ApplyDiff arrives while it still sends: it then closes a record of the layer that another "
    "thread writes to.",
)
EARLY_ERROR: Final = Reason(
    "A daemon that still sends when the plugin closes the connection may never read the reason. Its"
    " user sees a broken pipe instead.",
)

SHRUNK: Final = Reason(
    "A container keeps running while it is committed, and its files may become shorter. A Diff that"
    " cannot be completed must break off. If it ends normally, half an image is taken for a whole "
    "one.",
    ("https://github.com/moby/moby/issues/42884",),
)

# --- reference counts and restarts ----------------------------------------------------------------

LIVE_CONTAINERS: Final = Reason(
    "A daemon that is killed sends no Put for its mounted layers. After its restart it sends Get "
    "and Put for the layer of each container that still runs: a reference count that starts at 0 "
    "unmounts them.",
    ("Docker Engine documentation, Live restore",),
)
CLEANUP: Final = Reason(
    "A daemon sends Cleanup when it ends and no container runs any more.",
    (_DRIVER_API,),
)
PUT_RELEASES: Final = Reason(
    "A mount that remains after the last Put keeps the layer's filesystem busy, and makes a Remove "
    "fail.",
)
PLUGIN_RESTART: Final = Reason(
    "Plugins are upgraded, and crash, while daemons run. State that a plugin keeps only in memory "
    "is then lost, and images and containers with it.",
)
NO_INIT: Final = Reason(
    "A daemon sends Init once, when it starts. A plugin that is restarted later must know its home,"
    " or say that it does not. The response 'no such layer' makes the daemon drop images that "
    "exist.",
)
ENDS_ON_SIGTERM: Final = Reason(
    "A service manager, or a daemon that disables a managed plugin, sends SIGTERM and after a while"
    " SIGKILL. Daemons keep their connections open, so a plugin that waits for them to close never "
    "ends.",
)
CONTAINERS_GO_ON: Final = Reason(
    "This is the most common complaint about such plugins: an upgrade of the plugin unmounts the "
    "filesystems of running containers.",
)
HALF_LAYER: Final = Reason(
    "A plugin that is killed during a transfer leaves half a layer on disk. A daemon that takes it "
    "for a whole one runs a container on half an image.",
)

# --- many callers ---------------------------------------------------------------------------------

DIFF_WHILE_APPLYING: Final = Reason(
    "In docker commit, and in every COPY of a classic build, the body of a Diff is still being read"
    " while Create and ApplyDiff run on a second connection. A plugin that serves one call at a "
    "time hangs forever.",
)
DIFFS_AT_ONCE: Final = Reason(
    "At the export of a build, BuildKit asks for the Diff of every layer at once, each on its own "
    "connection.",
)
MANY_CALLERS: Final = Reason(
    "Pulls, builds and containers send calls at the same time, each on its own connection.",
)

# --- hostile images -------------------------------------------------------------------------------

ESCAPE: Final = Reason(
    "A plugin unpacks images of unknown origin as root. An entry that leads out of the layer can "
    "write anywhere on the host.",
    ("CVE-2014-6407", "CVE-2014-9356", "CVE-2025-47290"),
)
INSTRUCTIONS: Final = Reason(
    "trusted.overlay.* attributes and 0:0 devices are instructions to the kernel's overlayfs. Taken"
    " from a tar, they hide files of the layers below, or show other directories of the host.",
    ("Linux kernel documentation, filesystems/overlayfs",),
)
HUGE_HEADERS: Final = Reason(
    "A header that claims gigabytes, for example for a name, exhausts the machine's memory before "
    "any of it is checked.",
)
ROOT_ENTRY: Final = Reason(
    "An entry for a layer's root that is not a directory replaces the whole layer.",
    ("CVE-2021-29136",),
)
DAMAGED: Final = Reason(
    "A damaged tar that the plugin accepts becomes an image with files missing.",
)

# --- size -----------------------------------------------------------------------------------------

BIG_LAYERS: Final = Reason(
    "Layers of gigabytes are common, for example with models or databases. A plugin that collects "
    "one in memory dies, and may take the host with it.",
)
MANY_FILES: Final = Reason(
    "A Debian image has about 20,000 entries, a Node.js image many more.",
)
LEAKS: Final = Reason(
    "A plugin runs for months. Whatever each call leaves behind adds up.",
)
DISK_COMES_BACK: Final = Reason(
    "Users run docker system prune when the disk is full.",
)
