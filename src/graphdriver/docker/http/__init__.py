"""HTTP/1.1 on sockets, both sides, without the meaning of the messages.

- `server`: listeners, and a thread for each connection.
- `connection`: one connection, until it is closed.
- `requests`: requests and their bodies on one connection.
- `client_connection`: the client's side, with a deadline for each response.
- `delivery`: whether a caller has read its response.
"""
