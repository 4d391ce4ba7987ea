"""Docker's side: a driver as a graph driver plugin, HTTP and JSON over a socket."""
