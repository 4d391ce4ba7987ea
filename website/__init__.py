"""What `make docs` adds to the pages of docs/: the other pages of the repository, and the reference.

`hooks` is called by MkDocs; `repository` has the pages outside of docs/, and the links to them.
"""
