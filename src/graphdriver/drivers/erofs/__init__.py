"""The driver erofs: a layer's tar is stored as it came, and mounted as an EROFS image.

- `mounting`: the mount of one image on a directory.
- `probe`: in which way images can be mounted in a home.
"""
