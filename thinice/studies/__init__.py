"""Studies: results of many networks beside each other, and beside what papers report."""

from thinice.studies.definition import Study
from thinice.studies.running import StudyRun, run_study
from thinice.studies.study_file import parse_study, read_study

__all__ = ["Study", "StudyRun", "parse_study", "read_study", "run_study"]
