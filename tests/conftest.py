"""What every test file shares: hypothesis draws the same examples every time and writes nothing to disk."""

from hypothesis import settings

settings.register_profile("course", database=None, deadline=None, derandomize=True)
settings.load_profile("course")
