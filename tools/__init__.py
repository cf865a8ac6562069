"""What the people who write the course run: building, checking and running its notebooks. Not part of the package."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
