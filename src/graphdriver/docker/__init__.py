"""Docker's side: a driver as a graph driver plugin, HTTP and JSON over a socket.

- `protocol`: the one table of the calls.
- `handler`: makes the calls to the driver, and answers them.
- `messages`: requests and responses under Docker's names.
- `request_messages`: a request's message, from its body or its query.
- `codec`: messages as JSON.
- `session`: from a daemon's Init to its Cleanup.
- `daemon`: the record of a daemon's process and its Init.
- `state`: the directories in which Init is remembered.
- `left_in_place`: tars that are left in a shared store.
- `diffs`: Diffs that are being sent.
- `serve`: serve a driver in one line.
- `client`: a remote plugin as a driver.
- `answers`: checks a plugin's answers.
- `recorder`: records the calls between a daemon and a plugin.
- `http`: connections, requests, threads.
- `managed`: a driver as a managed plugin.
- `address`: where a plugin listens and is found.
"""
