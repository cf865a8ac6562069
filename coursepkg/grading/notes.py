"""What grading notes down in a notebook's and a cell's metadata, under one key."""

from nbformat import NotebookNode

KEY = "coursepkg"


def clear(nb: NotebookNode) -> None:
    """Drop what a submission may carry under the key: only grading writes there."""
    for holder in (nb, *nb.cells):
        holder.metadata.pop(KEY, None)


def note(holder: NotebookNode, **entries: object) -> None:
    """Add entries to a notebook or a cell."""
    holder.metadata.setdefault(KEY, NotebookNode()).update(entries)


def noted(holder: NotebookNode, entry: str, default: object = None) -> object:
    """An entry of a notebook or a cell."""
    return holder.metadata.get(KEY, {}).get(entry, default)
