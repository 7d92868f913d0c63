"""The kinds of things that are learnt: what each makes of its files, and how it is validated."""

from seqkit.tasks.kinds import prepare
from seqkit.tasks.task import Task, ValidationContext

__all__ = ["Task", "ValidationContext", "prepare"]
