"""Measurements that take longer, or more, than a lecture has; their results are data files of `coursepkg.results`."""
