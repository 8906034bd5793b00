"""Who is in a cohort?  Its learners, their networks, those who teach them, and what was noted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kdprobe.train.boards import Board
from kdprobe.train.learner import Learner, Member
from kdprobe.train.place import Place
from kdprobe.train.plan import Cohort
from kdprobe.train.settings import Source
from kdprobe.train.sources import TeacherView


@dataclass
class Team:
    """A cohort at work: its learners and those who teach them."""

    place: Place
    plan: Cohort
    learners: list[Learner]
    teachers: Mapping[Source, TeacherView]
    lines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by folder, in order
    boards: dict[str, Board] = field(default_factory=dict)  # by folder, where they are wanted

    def teacher(self, learner: Learner) -> TeacherView | None:
        """Who a learner looks at, or is compared with."""
        source = learner.run.teacher
        return self.teachers[source] if source is not None else None

    def members(self) -> Iterator[tuple[Learner, Member]]:
        """Every network of every learner."""
        for learner in self.learners:
            for member in learner.members:
                yield learner, member
