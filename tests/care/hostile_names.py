"""Names of layers, images and files that try to become part of a page's code."""

from __future__ import annotations

import os

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>&lt;img src=x onerror=alert(1)>",
    "two\u2028lines\u2029and\u0085\r\n\x00more",
    "left\u202eright",
    os.fsdecode(b"not-utf-8-\xff\xfe"),
    "lone-\ud800",
    "{data}{script}{policy}",
    "\"'`${1}",
)
