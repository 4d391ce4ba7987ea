"""A driver that serves a home, the same for every engine.

- `served_home`: a driver and the home that it serves.
- `home`: the lock, the marks and the records in a home.
- `home_contents`: a check for files of others in a directory.
- `init_lock`: many calls at once, or one Init.
- `call_log`: a line for each call, warnings for long ones.
- `figures`: counts and durations of calls.
- `tracing`: whether calls are traced.
- `spans`: the spans of calls and their steps.
- `readiness`: whether calls can be answered, and why not.
- `metrics`: the figures for Prometheus.
- `page_server`: an HTTP server of pages to read.
- `watch_pages`: the pages for programs that watch this process.
- `layer_records`: what is known of each layer.
- `layer_journal`: the file that keeps it.
- `questions`: questions to a running plugin, and their answers.
- `driver_status`: the driver's own status, for questions.
- `server_record`: which process serves a home, for others.
- `times`: times as text.
- `logs`: the log's formats.
- `options`: ``sync=`` and ``adopt=``, which the framework takes itself.
- `process`: rights, umask, descriptors of the process.
- `peers`: logs the processes that connect.
- `privileges`: gives up the privileges that are not used.
- `signals`: which signals stop a server.
- `notify`: sd_notify(3).
"""
