"""Layers as image registries and archives keep them: tars with a media type, a digest, a compression.

- `formats`: the media types of layers, and their compression.
- `digests`: computes and checks digests of streams.
- `read_ahead`: reads a stream in a second thread. `in_turn`: reads one tar at a time.
"""
