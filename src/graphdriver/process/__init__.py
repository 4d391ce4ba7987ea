"""What makes a process a server of layers, whichever engine it serves: its rights, log and signals."""
