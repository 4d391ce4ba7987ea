"""The kernel by its own names: system calls that the standard library lacks, and nothing above them."""
