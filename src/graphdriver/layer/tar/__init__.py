"""A layer's tar as bytes, read and written without a filesystem."""
