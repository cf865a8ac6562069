"""How nbgrader works in this course. Every nbgrader command that is run from this folder reads it.

    nbgrader generate_assignment 01_memory      solutions/ → release/   (the student's version)
    nbgrader release_assignment 01_memory       release/ → exchange
    nbgrader collect 01_memory                  exchange → submitted/
    nbgrader autograde 01_memory                submitted/ → autograded/ and gradebook.db
    nbgrader generate_feedback 01_memory        autograded/ → feedback/
    nbgrader release_feedback 01_memory         feedback/ → exchange
    nbgrader export                             gradebook.db → grades.csv

`coursepkg grade 01_memory` does autograde, generate_feedback and export in one go, and faster; docs/grading.md says more. Formgrader is a page of
JupyterLab: start `jupyter lab` here and choose Formgrader in the menu of nbgrader.

The exchange is a folder that instructor and students share on one machine; nbgrader does not support it on Windows.
There, and with a learning platform, put the submissions at submitted/STUDENT/01_memory/01_memory.ipynb yourself, or
let `nbgrader zip_collect 01_memory` do it.
"""

import os
import sysconfig
import warnings
from pathlib import Path

# A new gradebook runs `alembic`, which nbgrader looks for on PATH: it stands beside this Python.
scripts = sysconfig.get_path("scripts")
if scripts not in os.environ.get("PATH", "").split(os.pathsep):
    os.environ["PATH"] = scripts + os.pathsep + os.environ.get("PATH", "")

# nbgrader 0.9 makes SQLAlchemy 2 say this of every new submission; it harms nothing.
warnings.filterwarnings("ignore", message=r"Object of type <Submitted\w+> not in session")

root = Path(__file__).resolve().parent
c = get_config()  # noqa: F821  (nbgrader defines it)

c.CourseDirectory.root = str(root)
c.CourseDirectory.course_id = os.environ.get("COURSE_ID", "quantization")
c.CourseDirectory.source_directory = "solutions"
# What is never copied from an assignment's folder into a release, nor from a submission into what is graded:
# masters, mutants and notes of ours; modules of theirs that would shadow the course's. Data files are copied.
c.CourseDirectory.ignore = [
    ".*",
    "__pycache__",
    "feedback",
    "*.cfg",
    "*.db",
    "*.dll",
    "*.html",
    "*.md",
    "*.pth",
    "*.py",
    "*.pyc",
    "*.pyd",
    "*.sh",
    "*.so",
    "*.toml",
    "*.yaml",
    "*.yml",
    "*~",
]

# The exchange. Students of several accounts need a folder they can all reach: name it in COURSE_EXCHANGE.
c.Exchange.root = os.environ.get("COURSE_EXCHANGE", str(root / "exchange"))
# Where `nbgrader fetch_assignment`, run from here to try the student's side, puts an assignment.
c.Exchange.assignment_dir = "fetched"

# zip_collect reads what lies in downloaded/01_memory/archive/. Whose a notebook is stands in its name or its folder's:
#     STUDENT_01_memory.ipynb                                        all before the assignment's name, underscores too
#     STUDENT/01_memory.ipynb, or 01_memory.ipynb in STUDENT.zip     the folder or zip file that holds it
#     STUDENT_12345_assignsubmission_file_01_memory.ipynb            Moodle, also as the name of a folder, in which the
#     STUDENT_12345_assignsubmission_file/01_memory.ipynb            notebook may have more before 01_memory
# A browser's or a platform's count of copies may follow: `01_memory (1).ipynb`, `01_memory-1.ipynb`. Of two files by
# one student none is taken: zip_collect ends and names the second; keep one. It lists each name that it skips.
c.FileNameCollectorPlugin.named_regexp = r"""(?x)
    .*[/\\] (?P<assignment>[^/\\]+) [/\\]extracted[/\\]
    (?= (?: .* (?P<moodle> _\d+_assignsubmission_file ) )? )
    (?: .*[/\\] )?
    (?P<student_id> [^/\\]+? )
    (?(moodle)
        _\d+_assignsubmission_file (?: _ | _?[/\\] (?: .*[/\\_] )? )
    |
        [/\\_]
    )
    (?P<file_id> (?P=assignment) )
    (?: [ ]?\(\d+\) | -\d+ )?
    \.ipynb $
"""

# What one submission may take while it is graded; bytes where it is not said. Beyond that it is stopped.
c.Sandbox.cell_seconds = 30
c.Sandbox.notebook_seconds = 120
c.Sandbox.kept_output = 1_000_000  # characters of a cell's output that are kept
c.Sandbox.max_output = 20_000_000  # and after which the cell is stopped
c.Sandbox.memory = 3_000_000_000
c.Sandbox.files = 200_000_000
c.Sandbox.processes = 64

# `nbgrader validate` and the Validate button run the notebook in a kernel, as its author. They take stderr for a
# failure and cannot be told otherwise: there the kernel sends stderr as stdout, so that warnings fail nothing.
c.Execute.timeout = 30
c.Execute.shutdown_kernel = "immediate"
c.Execute.extra_arguments = [
    "--IPKernelApp.extra_extensions=coursepkg.grading.kernel",
    "--IPKernelApp.log_level=40",
]

# A rubric is a mark scheme in a locked cell of its own; nbgrader would have it only in cells it calls tasks.
c.ClearMarkScheme.enforce_metadata = False

# `nbgrader autograde` takes the steps of `coursepkg grade`, one submission after the other.
c.Autograde.pre_convert_hook = "coursepkg.grading.steps.take_in"
c.Autograde.sanitize_preprocessors = ["coursepkg.grading.steps.Rebuild"]
c.Autograde.autograde_preprocessors = [
    "coursepkg.grading.steps.Examine",
    "coursepkg.grading.grades.SaveGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
]
c.GenerateFeedback.preprocessors = [
    "nbgrader.preprocessors.GetGrades",
    "coursepkg.grading.feedback.HideTests",
    "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
]
# What students write and their cells show is cleaned of scripts, on feedback pages and in formgrader.
c.HTMLExporter.sanitize_html = True
c.HTMLExporter.filters = {
    name: f"coursepkg.grading.safehtml.{name}" for name in ("clean_html", "markdown2html")
}
c.ExportApp.plugin_class = "coursepkg.grading.export.StateCsv"
