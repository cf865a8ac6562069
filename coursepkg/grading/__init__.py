"""What an instructor's commands call: making, proving and grading assignments. The only importer of nbgrader."""
