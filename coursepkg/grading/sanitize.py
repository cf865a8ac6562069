"""Putting a submission's tests and metadata back, so that an odd notebook costs at most its own author."""

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.nbgraderformat import SchemaTooNewError, SchemaTooOldError
from nbgrader.preprocessors import CheckCellMetadata, NbGraderPreprocessor, OverwriteCells

from coursepkg.grading import notes, record
from coursepkg.grading.regions import released


class PlainCells(NbGraderPreprocessor):
    """Makes ordinary cells of those whose nbgrader metadata means nothing: copies, and cells of other notebooks.

    Of several cells with one id the last stays what it is, as in nbgrader's DeduplicateIds, which leaves the others
    with metadata that nbgrader then refuses together with the rest of the class.
    """

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        notes.clear(nb)
        where = resources["nbgrader"]
        with Gradebook(where["db_url"]) as gradebook:
            known = {
                cell.name
                for cell in gradebook.find_notebook(where["notebook"], where["assignment"]).source_cells
            }
        changes: list[str] = []
        seen: set[str] = set()
        for cell in reversed(nb.cells):
            if "nbgrader" not in cell.metadata:
                continue
            grade_id = _grade_id(cell)
            if grade_id not in known or grade_id in seen:
                del cell.metadata["nbgrader"]
            if grade_id in seen:
                changes.append(f"{grade_id} occurs more than once; the last of its cells was graded")
            seen.add(grade_id)
        notes.note(nb, changes=changes)
        return nb, resources


def _grade_id(cell: NotebookNode) -> str:
    metadata = cell.metadata["nbgrader"]
    return metadata.get("grade_id", "") if isinstance(metadata, dict) else ""


class RestoreCells(OverwriteCells):
    """Overwrites tests and other locked cells with the instructor's, and notes which code was another.

    nbgrader compares with the cell before its hidden tests were taken out, and so reports every cell that has some.
    """

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        self._changed: list[str] = []
        nb, resources = super().preprocess(nb, resources)
        notes.note(nb, changes=notes.noted(nb, "changes", []) + self._changed)
        return nb, resources

    def preprocess_cell(
        self, cell: NotebookNode, resources: ResourcesDict, cell_index: int
    ) -> tuple[NotebookNode, ResourcesDict]:
        self._submitted, self._kind = cell.source, cell.cell_type
        return super().preprocess_cell(cell, resources, cell_index)

    def report_change(self, name: str, attr: str, old: object, new: object) -> None:
        """Called by nbgrader before it puts `old` back. A changed text is put back without a word."""
        if attr == "checksum":
            source = self.gradebook.find_source_cell(name, self.notebook_id, self.assignment_id).source
            if self._kind == "markdown" or _same(released(source), self._submitted):
                return
            self._changed.append(f"{name} differs from the course's, which was used")
        else:
            self._changed.append(f"{name} has another {attr} than the course's, which was used")
        self.log.warning("%s", self._changed[-1])


def _same(one: str, other: str) -> bool:
    """Equal but for white space at the end of lines and of the cell."""
    return [line.rstrip() for line in one.rstrip().split("\n")] == [
        line.rstrip() for line in other.rstrip().split("\n")
    ]


class CheckMetadata(CheckCellMetadata):
    """nbgrader's check, except that metadata of another version ends one submission and not the class."""

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        try:
            return super().preprocess(nb, resources)
        except (SchemaTooOldError, SchemaTooNewError) as error:
            reason = f"its nbgrader metadata is of another version: {error}"
        except Exception as error:
            reason = f"its nbgrader metadata is damaged: {str(error).splitlines()[0]}"
        where = resources["nbgrader"]
        with Gradebook(where["db_url"]) as gradebook:
            failed = record.load(gradebook, where["assignment"], where["student"])
            failed.failed = reason
            record.save(gradebook, where["assignment"], where["student"], failed)
        raise ValueError(reason)
