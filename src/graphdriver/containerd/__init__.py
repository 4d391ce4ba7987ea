"""containerd's side: any driver as a proxy snapshotter."""
