"""HTTP/1.1 on sockets, both sides; nothing of what the messages mean."""
