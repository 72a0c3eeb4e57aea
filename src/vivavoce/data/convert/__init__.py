"""Two ways between published forms of speech data and our conversations.

``convert(src, dst)`` tells the form of ``src`` by looking at it, and reports what it could not carry over.
"""

from vivavoce.data.convert.conversion import (
    Converted,
    FormatFacts,
    convert,
    detect_format,
    get_format,
    list_formats,
    read_any,
)
from vivavoce.data.convert.table import FORMATS

__all__ = [
    "FORMATS",
    "Converted",
    "FormatFacts",
    "convert",
    "detect_format",
    "get_format",
    "list_formats",
    "read_any",
]
