"""The first import of bitsandbytes, without what it says of kernels that are not here."""

from coursepkg.quiet import quiet

try:
    with quiet():
        import bitsandbytes  # noqa: F401
except ImportError:
    """This package's own layers do without; `Settings(library="peft")` says what is missing when it loads a model."""
