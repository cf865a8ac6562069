"""The first import of bitsandbytes, without what it says of kernels that are not here."""

from coursepkg.quiet import quiet

with quiet():
    import bitsandbytes  # noqa: F401
