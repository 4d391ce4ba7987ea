"""Docker's side: a driver as a graph driver plugin, HTTP and JSON over a socket.

- `protocol`: the one table of the calls.
- `handler`: a call becomes a call of the driver.
- `messages`: requests and responses under Docker's names.
- `request_messages`: a request's message, from its body or its query.
- `codec`: messages as JSON.
- `session`: from a daemon's Init to its Cleanup.
- `daemon`: a daemon's process and its Init, as they are remembered.
- `state`: the directories in which Init is remembered.
- `diffs`: Diffs that are being sent.
- `serve`: serve a driver in one line.
- `client`: a remote plugin as a driver.
- `answers`: checks what a plugin answers.
- `recorder`: writes down what a daemon and a plugin say.
- `http`: connections, requests, threads.
- `address`: where a plugin listens and is found.
"""
