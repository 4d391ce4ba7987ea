"""A driver at work in a home, whichever engine asks.

- `served_home`: a driver at work in a home.
- `home`: the lock, the marks and the records in a home.
- `home_contents`: whose files a directory holds.
- `init_lock`: many calls at once, or one Init.
- `call_log`: a line for each call, warnings for long ones.
- `logs`: the log's formats.
- `options`: ``sync=`` and ``adopt=``, which the framework takes itself.
- `process`: rights, umask, descriptors of the process.
- `signals`: which signals stop a server.
- `notify`: sd_notify(3).
"""
