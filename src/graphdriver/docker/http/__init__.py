"""HTTP/1.1 on sockets, both sides; nothing of what the messages mean.

- `server`: listeners, and a thread for each connection.
- `connection`: one connection, until it is closed.
- `requests`: requests and their bodies on one connection.
- `deadlines`: when a response must have been read.
- `delivery`: whether a caller has read its response.
"""
