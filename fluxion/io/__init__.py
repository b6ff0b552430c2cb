"""Models on disk."""

from fluxion.io.files import load, loadmodel, read_metadata, save

__all__ = ["load", "loadmodel", "read_metadata", "save"]
