"""A layer's tar as an EROFS image: the tar as it came, and an index that makes it a filesystem.

A tar that is not compressed has each file's data in one piece, which begins on a multiple of 512 bytes.
EROFS, a read-only filesystem of Linux, can use blocks of 512 bytes, and says of each file where its
data begin. So the tar's own blocks are the files' data: nothing is unpacked and nothing is copied, and
the tar can be given out again byte for byte. The index names the files, and says where their data are.

An image is one file (`index.Place.BEHIND_TAR`)::

    0       head: the superblock at 1024
    4096    the tar as it came, filled up to a whole block
            copied data: data that have no blocks of their own in the tar
            inodes of directories, the root first
            data of directories
            long targets of links
            all other inodes

Or the index is in a file of its own, the same without the tar (`index.Place.OWN_FILE`). The tar is
then the image's device 1: the device table, behind the superblock, says that its blocks are numbered
from 2^31, behind those of any index. The data of one file are never in both: Linux 6.18 reads such
files wrong (`index`). The second file may also be another image with this tar
(`index.Place.BEHIND_HEAD`): nothing of its index is used then, and the device begins 8 blocks earlier.

The format is in the kernel's fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst. This is what
we write of it:

- Inodes have the extended form of 64 bytes: owners of 32 bits, times of their own, to the nanosecond
  and before 1970 too. They begin on multiples of 32 bytes, counted by their numbers. Extended
  attributes follow an inode: the kernel finds them without looking further.
- A regular file is *flat*: a block number and a size. A sparse file has a list of *chunks* behind its
  attributes: a block number for each, or -1 for a hole. Data that do not begin and end with a block,
  in the file and in the tar, have no numbers, and are copied (`chunks`).
- A symbolic link's target stands behind the inode if both fit in a block, as most do. The kernel then
  reads it with the inode; a block of its own would take a page of memory for each link that is read.
- A directory is a list of entries, sorted by their names' bytes over all its blocks, ``.`` and ``..``
  among them, since the kernel looks for a name by halves. Hard links are entries with one inode.
- Whiteouts (0:0 devices) and opaque marks (``trusted.overlay.opaque``) are as overlayfs reads them in
  any lower directory. Only on the root overlayfs ignores an opaque mark.
- There are no compressed files, no inodes of the short form, no shared attributes, no checksums (EROFS
  has one of the superblock only).

The kernel needs EROFS with blocks smaller than a page (Linux 6.4) and attributes. It does not expect
hostile images, so only those are mounted that were written here.

**An image is a function** of its tar, the id maps, `record.VERSION` and, where the record has facts, of
what the layers below show there. It depends on nothing else: no clock, no free memory, no order of a
dictionary. Directories are written nearest to the root first; inodes in the order in which sorted
names lead to them; the image's time is 0, and its UUID comes from the tar's SHA-256.

**Limits.** A name has at most 255 bytes, a link's target 4,095, an attribute 65,535, all of an inode
262,136 (`structures.attributes_fit`). Block numbers have 32 bits: an image has at most 2 TiB, a tar as
a device 1 TiB. A layer over a limit is refused (`UnsupportedError`), and unpacked from its stored tar.

- `tree`: the layer as a tree in memory.
- `structures`: what an image is made of, as bytes, and the limits.
- `chunks`: where the data of sparse files are.
- `store`: stores a layer: the tar, the index, the record.
- `builder`: applies a tar's entries to a tree, as the unpacker does on disk.
- `upper_tree`: that tree: directories, whiteouts, copies from below.
- `links`: its hard links.
- `attributes`: its permission bits and extended attributes.
- `below`: looks up the layers below.
- `facts`: what they show, as texts.
- `copied`: data that have no blocks of their own in the tar.
- `bounds`: the limits of one layer.
- `index`: writes the index of a tree. `part_writer`: writes bytes from a position on.
- `storing_stream`: writes a tar to a file while it is read.
- `record`: the record beside an image.
- `whole`: a quick check of a layer's file.
- `stored_tar`: the checksums of a stored tar, and a stream that checks it while it is read back.
- `tar_headers`: the headers of a tar apart from it, for nodes that reach the tar over a network.
"""
