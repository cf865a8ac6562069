"""Running a submission: the student's cells in a process that is not trusted, the tests in one that is."""
