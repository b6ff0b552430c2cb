"""The version, read by the build and by `fluxion info`."""

__version__ = "0.1.0"
