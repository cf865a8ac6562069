"""Units of memory. GB is 10^9 bytes and GiB is 2^30 bytes; a text that says "GB" here never means GiB."""

GB = 10**9
GiB = 2**30
MB = 10**6
MiB = 2**20


def in_gb(n_bytes: int, digits: int = 2) -> str:
    """`n_bytes` as text in GB (10^9 bytes), for example ``13.48 GB``."""
    return f"{n_bytes / GB:,.{digits}f} GB"


def in_gib(n_bytes: int, digits: int = 2) -> str:
    """`n_bytes` as text in GiB (2^30 bytes), for example ``12.55 GiB``."""
    return f"{n_bytes / GiB:,.{digits}f} GiB"
