"""The sources of the rules: issues, security advisories, sections of a specification, by subject.

What daemons do was recorded from Docker 20.10.24 and 27.5.1.
"""

from __future__ import annotations

from typing import Final

_EXTEND: Final = "https://github.com/docker/cli/blob"
_PLUGIN_API: Final = f"{_EXTEND}/92a97903282a9e9c868f27e13f328427cda12093/docs/extend/plugin_api.md"
_GRAPH_DRIVERS: Final = (
    f"{_EXTEND}/e2626200aaa0f950ed36385f7dab554ceff74e53/docs/extend/plugins_graphdriver.md"
)
_ISSUE: Final = "https://github.com/moby/moby/issues/"
_PULL: Final = "https://github.com/moby/moby/pull/"
_LAYER: Final = "https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md"
_CVE: Final = "https://www.cve.org/CVERecord?id="

HANDSHAKE: Final = (_PLUGIN_API,)
DAEMON_RESTART: Final = (_GRAPH_DRIVERS,)
ID_MAP_SPELLINGS: Final = (_GRAPH_DRIVERS,)
LIFE_OF_A_LAYER: Final = (_GRAPH_DRIVERS,)
REMOVE_IS_REPEATED: Final = (_GRAPH_DRIVERS,)
MOUNTED_AT_REMOVE: Final = (f"{_ISSUE}22260",)
CHILD_IS_A_SNAPSHOT: Final = (f"{_LAYER}#populate-a-comparison-filesystem",)
ROOT_DIRECTORY: Final = (
    "https://github.com/containers/storage/pull/120",
    "https://github.com/rkt/rkt/pull/678",
)
LONG_CHAINS: Final = (
    f"{_ISSUE}26380",
    "https://github.com/moby/buildkit/issues/4810",
)
LONGER_CHAINS: Final = (
    f"{_ISSUE}26380",
    "https://github.com/cri-o/cri-o/issues/6261",
)
LAYERS_TRAVEL: Final = (f"{_LAYER}#file-attributes",)
SAME_DIGEST: Final = (
    f"{_ISSUE}21555",
    "https://github.com/moby/buildkit/issues/3168",
)
EMPTY_LAYERS: Final = (
    f"{_PULL}18226",
    f"{_ISSUE}20917",
)
DIALECTS: Final = ("https://github.com/dragonflyoss/nydus/pull/1391",)
PAX_SIZE: Final = (f"{_CVE}CVE-2025-62518",)
SPARSE: Final = (f"{_ISSUE}5419",)
OVER_THE_EXISTING: Final = (
    f"{_LAYER}#changeset-over-existing-files",
    "https://github.com/hpc/charliecloud/issues/825",
)
ANY_ORDER: Final = ("https://github.com/GoogleContainerTools/container-diff/pull/98",)
MISSING_PARENTS: Final = (
    "https://github.com/containerd/containerd/issues/3017",
    "https://github.com/containers/storage/issues/1288",
    f"{_ISSUE}53257",
)
DOCKER_DIFF: Final = (
    f"{_ISSUE}23021",
    f"{_ISSUE}37880",
)
UNSEEN_CHANGES: Final = (
    f"{_ISSUE}8242",
    f"{_ISSUE}31805",
)
SIZES: Final = (
    f"{_PULL}2304",
    f"{_ISSUE}9283",
)
WHITEOUTS: Final = (
    f"{_LAYER}#whiteouts",
    "https://github.com/containers/fuse-overlayfs/issues/151",
)
OPAQUE: Final = (
    f"{_LAYER}#opaque-whiteout",
    f"{_ISSUE}32354",
    "https://github.com/opencontainers/image-spec/issues/144",
)
AUFS: Final = (f"{_PULL}4178",)
HARD_LINKS: Final = (
    f"{_LAYER}#hardlinks",
    f"{_ISSUE}5632",
    f"{_ISSUE}48140",
)
LINKS_AS_IN_A_CHROOT: Final = ("https://github.com/moby/go-archive/issues/99",)
NAMES_OF_ONE_FILE: Final = (
    f"{_LAYER}#changeset-over-existing-files",
    "https://github.com/google/go-containerregistry/issues/2002",
)
SYMBOLIC_LINKS: Final = ("https://github.com/oracle/smith/pull/7",)
MODES: Final = (
    "https://github.com/opencontainers/umoci/issues/166",
    f"{_ISSUE}36239",
)
CAPABILITIES: Final = (
    f"{_ISSUE}42655",
    f"{_PULL}3845",
)
ATTRIBUTES: Final = (
    f"{_LAYER}#file-attributes",
    f"{_ISSUE}35699",
    f"{_ISSUE}43882",
)
TIMES: Final = (
    f"{_ISSUE}40004",
    "https://github.com/GoogleContainerTools/kaniko/issues/1808",
)
TIMES_OF_DIRECTORIES: Final = (
    "https://github.com/microsoft/hcsshim/pull/832",
    f"{_ISSUE}17175",
)
SPECIAL_FILES: Final = (f"{_LAYER}#file-types",)
SOCKETS: Final = ("https://github.com/containerd/containerd/pull/2222",)
NAMES: Final = (
    f"{_ISSUE}16516",
    "https://github.com/vbatts/tar-split/pull/18",
)
ID_MAPS: Final = (f"{_ISSUE}39169",)
UNMAPPED: Final = ("https://github.com/GoogleContainerTools/distroless/issues/313",)
SHRUNK: Final = (f"{_ISSUE}42884",)
LIVE_CONTAINERS: Final = ("https://docs.docker.com/engine/daemon/live-restore/",)
CLEANUP: Final = (_GRAPH_DRIVERS,)
ESCAPE: Final = (
    f"{_CVE}CVE-2014-6407",
    f"{_CVE}CVE-2014-9356",
    f"{_CVE}CVE-2025-47290",
)
INSTRUCTIONS: Final = ("https://docs.kernel.org/filesystems/overlayfs.html",)
ROOT_ENTRY: Final = (f"{_CVE}CVE-2021-29136",)
