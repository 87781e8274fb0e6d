"""What is wrong with a video, said before hours are spent on it."""

from radnerf.preprocess.report.facts import Facts, measure
from radnerf.preprocess.report.findings import Finding, find_faults
from radnerf.preprocess.report.page import page
from radnerf.preprocess.report.warnings import PAGE, QUALITY, warn, warnings_of

__all__ = [
    "PAGE",
    "QUALITY",
    "Facts",
    "Finding",
    "find_faults",
    "measure",
    "page",
    "warn",
    "warnings_of",
]
