"""Why each case is there: what daemons do, and what happened to drivers that were not ready for it.

What daemons do was read off the wire of Docker 20.10.24 and 27.5.1. A reference is a report in a
tracker, a security advisory, or a section of a specification.
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
    "A daemon asks Activate first, and takes a plugin that does not say GraphDriver for none.",
    (_API,),
)
EMPTY_HOST: Final = Reason(
    "Docker 20.10.24 as Debian builds it sends an empty Host header with every call; a server that "
    "insists on one is no plugin there."
)
KEPT_CONNECTION: Final = Reason(
    "Daemons keep two or three connections and use them again. A JSON call that is sent just as the "
    "plugin closes an idle one is lost: it comes again with an empty body."
)
EMPTY_MEMBERS: Final = Reason(
    "Daemons leave empty members out of their JSON, and send null for empty lists and maps."
)
GO_JSON: Final = Reason(
    "Go's decoder, which the first plugins were written with, takes member names in any letter case."
)
TAKES_EVERY_200: Final = Reason(
    "A daemon streams whatever comes with a 200 into the layer: an error in it becomes the layer."
)
UNKNOWN_CALL: Final = Reason(
    "A 404 to Capabilities means 'all defaults'; a 200 to what a plugin does not know means success."
)
SHOWN_TO_USERS: Final = Reason(
    "A daemon shows the plugin's error to its user, word for word; a bare errno tells nobody which "
    "layer it was, or what to do."
)
ALIVE: Final = Reason(
    "A plugin that dies takes the daemon's images with it: every later call fails until somebody "
    "starts it again."
)

# --- homes ----------------------------------------------------------------------------------------

DAEMON_RESTART: Final = Reason(
    "Each start of a daemon says Init again, with the same home and all its layers in it.",
    (_DRIVER_API,),
)
MANAGED_HOME: Final = Reason(
    "A managed plugin with a propagatedMount is given a home like /mnt/org/name:tag. Its parent does "
    "not exist, and it holds a colon, which overlayfs takes for a separator of lower folders."
)
ID_MAP_SPELLINGS: Final = Reason(
    "The documentation writes ContainerID, HostID and Size; daemons send container_id, host_id and "
    "size.",
    (_DRIVER_API,),
)
UNKNOWN_OPTION: Final = Reason(
    "Who mistypes a --storage-opt believes that it is set; Docker's own drivers refuse it."
)

# --- the life of a layer ---------------------------------------------------------------------------

LIFE_OF_A_LAYER: Final = Reason(
    "A daemon keeps its own list of layers and believes that the plugin's is the same.",
    (_DRIVER_API,),
)
REMOVE_IS_REPEATED: Final = Reason(
    "A daemon removes a layer again whose Remove it did not see answered, and calls an error a layer "
    "that cannot be deleted.",
    (_DRIVER_API,),
)
MOUNTED_AT_REMOVE: Final = Reason(
    "A daemon that was killed does not Put what it held; the next one removes those layers.",
    ("https://github.com/moby/moby/issues/22260",),
)
GETS_NEST: Final = Reason(
    "A daemon Gets a container's layer to run it and again to copy, to commit or to look at it; the "
    "first Put must not pull the folder from under the others."
)

# --- layers upon layers ----------------------------------------------------------------------------


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

# --- written through Get ---------------------------------------------------------------------------

BUILDKIT: Final = Reason(
    "BuildKit, Docker's builder, makes a layer with Create, Gets it, runs a container in its "
    "folder and Puts it; then it asks for DiffSize, and for the Diff at the export. It never calls "
    "ApplyDiff.",
)
COMMIT_OF_THE_RUNNING: Final = Reason(
    "docker commit Gets a layer that its container still writes to, and asks for its Diff meanwhile.",
)

# --- diff and ApplyDiff ----------------------------------------------------------------------------

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

# --- changes and sizes -----------------------------------------------------------------------------

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

# --- what a tar deletes ----------------------------------------------------------------------------

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

# --- links -----------------------------------------------------------------------------------------

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

# --- attributes, types, names ----------------------------------------------------------------------

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

# --- calls that break off and come again ----------------------------------------------------------

SENT_AGAIN: Final = Reason(
    "A call whose connection broke comes again after 1, 2, 4 and 8 s, but its body is used up: it "
    "arrives with Content-Length 0. Answered with 200, the daemon believes that it was done."
)
BROKEN_TRANSFER: Final = Reason(
    "A layer's transfer that breaks off comes again with a body that breaks off at once, and then the "
    "daemon calls Remove and starts anew. A half layer that was called good outlives every pull."
)
TAIL: Final = Reason(
    "Of a driver that says ReproducesExactDiffs the second body is a well-formed tail of the tar, and "
    "no parser can tell; so a layer is applied to once."
)
EMPTY_LAYER: Final = Reason(
    "docker import of nothing, and layers of zero bytes, send a whole body without an entry in it."
)
CHUNKS: Final = Reason(
    "Daemons send a layer in chunks of 512 bytes to 32 KiB, cut anywhere, also within a header."
)
OTHER_CLIENTS: Final = Reason("Other clients than Go's know a body's length and say it.")
READER_GONE: Final = Reason(
    "A cancelled commit, build or push leaves a Diff unread; the layer must not stay held by it."
)
EARLY_ANSWER: Final = Reason(
    "Docker 20.10.24 can crash (index out of range, in compress/flate) when the answer to an ApplyDiff "
    "comes while it still sends: it then closes the record of the layer that another of its threads "
    "writes to."
)
EARLY_ERROR: Final = Reason(
    "A daemon that is still sending when the plugin closes may never read why; the user sees a broken "
    "pipe instead of the reason."
)

SHRUNK: Final = Reason(
    "A container runs on while it is committed, and files become shorter. A Diff that cannot be made "
    "any more must break off: ended as if it were whole, it is half an image that is called good.",
    ("https://github.com/moby/moby/issues/42884",),
)

# --- references and restarts ----------------------------------------------------------------------

LIVE_CONTAINERS: Final = Reason(
    "A daemon that was killed does not Put what it held. Started again it Gets and Puts the layer of "
    "each container that lives on: a count that began at 0 unmounts them.",
    ("Docker Engine documentation, Live restore",),
)
CLEANUP: Final = Reason(
    "A daemon says Cleanup at its end, when no container lives on.", (_DRIVER_API,)
)
PUT_RELEASES: Final = Reason(
    "A mount that outlives its last Put keeps the layer's disk busy, and a Remove from working."
)
PLUGIN_RESTART: Final = Reason(
    "Plugins are upgraded and crash under running daemons; what a plugin knew in memory alone is then "
    "gone, and with it images and containers."
)
NO_INIT: Final = Reason(
    "A daemon says Init once, at its own start. A plugin that was restarted meanwhile must know its "
    "home, or say that it does not; 'no such layer' makes the daemon give up images that are there."
)
ENDS_WHEN_TOLD: Final = Reason(
    "A service manager, or a daemon that disables its managed plugin, sends SIGTERM and a while later "
    "SIGKILL. Daemons keep their connections open, so a plugin that waits for those never ends."
)
CONTAINERS_GO_ON: Final = Reason(
    "What users of such plugins suffer from most: an upgrade of the plugin unmounts the file systems "
    "of running containers."
)
HALF_LAYER: Final = Reason(
    "A plugin killed in a transfer has half a layer on disk. Whoever takes it for a whole one later "
    "runs a container on half an image."
)

# --- many callers ---------------------------------------------------------------------------------

DIFF_WHILE_APPLYING: Final = Reason(
    "In docker commit and in every COPY of a classic build the body of a Diff is still being read "
    "while Create and ApplyDiff run on a second connection: a plugin that serves one call at a time "
    "hangs for ever."
)
DIFFS_AT_ONCE: Final = Reason(
    "At the export of a build BuildKit asks for the Diff of every layer at once, each on a connection "
    "of its own."
)
MANY_CALLERS: Final = Reason(
    "Pulls, builds and containers call at the same time, on as many connections."
)

# --- hostile images -------------------------------------------------------------------------------

ESCAPE: Final = Reason(
    "A plugin unpacks anybody's image as root: an entry that leads out of the layer writes anywhere on "
    "the host.",
    ("CVE-2014-6407", "CVE-2014-9356", "CVE-2025-47290"),
)
ORDERS: Final = Reason(
    "trusted.overlay.* attributes and 0:0 devices are orders to the kernel's overlay: obeyed from a "
    "tar they hide files of the layers below, or show other folders of the host.",
    ("Linux kernel documentation, filesystems/overlayfs",),
)
HUGE_HEADERS: Final = Reason(
    "A header that claims gigabytes, of a name say, takes the machine's memory before a byte of it was "
    "checked."
)
ROOT_ENTRY: Final = Reason(
    "An entry for the root of a layer that is no folder replaces the layer by what it says.",
    ("CVE-2021-29136",),
)
DAMAGED: Final = Reason("A damaged tar that is called good becomes an image with files missing.")

# --- size -----------------------------------------------------------------------------------------

BIG_LAYERS: Final = Reason(
    "Layers of gigabytes are common, of models and of databases; one that is gathered in memory takes "
    "the plugin, and the host, down."
)
MANY_FILES: Final = Reason("A Debian image has some 20,000 entries, and a Node.js one many more.")
LEAKS: Final = Reason("A plugin runs for months; what each call leaves behind adds up.")
DISK_COMES_BACK: Final = Reason("docker system prune is what people do when the disk is full.")
