"""`python -m coursepkg`: the command, also where its environment is not activated."""

from coursepkg.cli import app

if __name__ == "__main__":
    app(prog_name="coursepkg")
