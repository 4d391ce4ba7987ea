"""Why things are checked that are about calls, processes and many callers; see `issues`."""

from __future__ import annotations

from typing import Final

from graphdriver.conformance.kit.case import Reason

_API = "Docker Engine documentation, Docker plugin API"
_DRIVER_API = "Docker Engine documentation, Docker graph driver plugins"

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
