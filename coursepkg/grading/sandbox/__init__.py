"""Where a student's code runs: a process of its own, of which nothing comes back but data."""
