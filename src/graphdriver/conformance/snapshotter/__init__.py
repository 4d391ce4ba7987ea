"""What a containerd snapshotter must do, whatever it is written in, over gRPC.

It needs the extra ``graphdriver[containerd]``. The cases, and what they are told and run by, are those
of `graphdriver.conformance`; what they work with is a `kit.Kit`.
"""
