"""Exit with advice unless this Python can run the course. Runs in whatever `python3` is, so it asks nothing of it."""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        f"The course needs Python 3.11, 3.12 or 3.13; {sys.executable} is {sys.version_info[0]}.{sys.version_info[1]}.\n"
        "Name another one, for example: make lab PYTHON=python3.11"
    )
