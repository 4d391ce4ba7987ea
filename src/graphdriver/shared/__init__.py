"""Layers in a store for many nodes: each layer is kept once, and no node has to trust the store.

A store keeps objects under keys: a directory that all nodes mount, for example. For each layer it has

- the *image*: the layer's tar as it came, with an index that makes it an EROFS filesystem
  (`graphdriver.layer.erofs`);
- its *record*: where the tar is in it (`graphdriver.layer.erofs.record`);
- a *link*: a chain ID, with the chain ID below it and the diff ID that it is computed from.

Image and record are named by the diff ID, unless the index depends on the layers below (the tar does
not describe a directory, or links to a file there): such an image is right only upon these, and is
named by its chain ID. Objects are never changed. What was interrupted left none, or a whole one.

**What is believed.** Nothing that a store says. The SHA-256 of a layer's tar must be the diff ID, and
the chain ID must be the SHA-256 of the chain ID below, a space, and the diff ID (OCI image-spec,
"Layer ChainID"). The index is not used: it is made again here. So a store that lies, or that somebody
else writes to, costs time, and shows nobody another layer. Layers in place are the exception
(`in_place`): the tar's headers and data are believed until all of the tar was read.

- `keys`: the names of objects, and links.
- `store`: what a store can do.
- `opening`: which kind of store an address names. `availability`: whether a store answers.
- `waiting`: calls that are abandoned if a store does not answer.
- `directory`: a store in a directory.
- `leases`: which nodes read which layers in place. `in_place`: what a node does for its own.
- `registry`: a store in a registry of images; `tags`, `repository`: its tags, and how it is asked;
  `login`, `credentials`, `credential_helper`: who this node is to it; `web`: HTTP with a server
  that is not trusted.
- `s3`: a store in a bucket of S3.
- `compressed`: images compressed, in a store that is reached over a network.
- `layers`: puts layers into a store, finds them and checks them.
"""
