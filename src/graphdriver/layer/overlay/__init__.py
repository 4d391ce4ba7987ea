"""Upper directories of overlay mounts as layers."""
