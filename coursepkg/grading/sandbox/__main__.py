"""`python -m coursepkg.grading.sandbox FILE`: the warm process, see warm.py.

Garbage is not collected while it imports: there is none, and looking for it takes a quarter of the time.
"""

import gc

gc.disable()

from coursepkg.grading.sandbox.warm import main  # noqa: E402

main()
