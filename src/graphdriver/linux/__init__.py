"""The kernel under its own names: system calls that the standard library lacks, and nothing else.

- `mount`: mount(2), fsopen(2), open_tree(2), umount(2).
- `mountinfo`: /proc/self/mountinfo.
- `namespaces`: namespaces(7), user_namespaces(7).
- `openat2`: openat2(2).
- `regular_file`: opens a regular file and nothing else.
- `xattr`: extended attributes.
- `acl`: default access control lists.
- `inode_flags`: chattr(1).
- `rename`: renameat2(2).
- `reflink`: FICLONE, copy_file_range(2).
- `filesystem`: statfs(2), syncfs(2).
- `locked_pages`: mlock(2) of a file's pages, and its lease.
- `loop`: loop devices, loop(4).
- `btrfs`: subvolumes and searches of btrfs.
- `btrfs_quota`: simple quotas of btrfs.
- `project_quota`: limits by project.
- `projects`: project numbers of directories.
- `processes`: /proc of other processes.
- `unix_sockets`: unix(7).
- `resources`: which resource ran out.
- `capabilities`: capabilities(7), no_new_privs.
- `libc`: the C library by ctypes.
"""
