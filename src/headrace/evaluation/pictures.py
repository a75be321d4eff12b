"""Sets of pictures and their decoding stand in `headrace.pictures`."""

from headrace.pictures.decoding import decode
from headrace.pictures.entry import Entry, PictureSource
from headrace.pictures.folder import SUFFIXES, FileSource
from headrace.pictures.source import digest, open_source

__all__ = ["SUFFIXES", "Entry", "FileSource", "PictureSource", "decode", "digest", "open_source"]
