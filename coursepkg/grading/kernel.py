"""What the kernel that validates does differently; an IPython extension that it loads when it starts.

nbgrader's validator takes text on stderr for a failed test and cannot be told otherwise: so stderr goes where stdout goes.
"""

import os
import sys


def load_ipython_extension(shell: object) -> None:
    """Called by IPython."""
    if "NBGRADER_VALIDATING" in os.environ:
        sys.stderr.name = "stdout"
