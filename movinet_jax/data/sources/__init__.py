"""Kinds of datasets, one file each with `open_source(...) -> Source`."""
