"""Reading a group of batches: its gradients and losses, in as many parts as memory requires."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from seqkit.batch import Batch
from seqkit.errors import ResourceError
from seqkit.loss import Tally
from seqkit.parallel.processes import Processes, lost_process_reported
from seqkit.state import State, join, map_state, select
from seqkit.training.memory import free, parts, ran_out
from seqkit.training.objective import Objective
from seqkit.training.seeds import seed_of

__all__ = ["TIGHT", "BatchGroup", "GroupGradients", "GroupReader", "TrainingStream", "too_large"]

TIGHT = 0.05  # the share of groups for which memory may run out, among at least
TIGHT_GROUPS = 20


class BatchGroup(Protocol):
    """The batches of one optimizer step."""

    @property
    def batches(self) -> Sequence[Batch]:
        """This process's slices."""
        ...

    @property
    def tokens(self) -> int:
        """Target positions that count, over all processes."""
        ...

    @property
    def padded(self) -> int:
        """Target positions, padding included, over all processes."""
        ...

    @property
    def examples(self) -> Sequence[Sequence[int]]:
        """Which training examples each batch holds over all processes, counted from 0; empty where there are none."""
        ...


class TrainingStream(Protocol):
    """Training data: a pure function of seed and epoch, cut into groups."""

    @property
    def carries(self) -> int:
        """Rows, over all processes, whose state goes on from batch to batch; 0 where every batch begins from zeros."""
        ...

    def groups(self, epoch: int, start: int = 0) -> Iterator[BatchGroup]:
        """The groups of an epoch from the `start`-th on."""
        ...

    def count(self, epoch: int) -> int:
        """How many groups an epoch has."""
        ...

    def largest(self, epoch: int) -> BatchGroup:
        """The batch of an epoch that takes the most memory, as a group of its own."""
        ...


class GroupGradients(NamedTuple):
    """The losses of a group; its gradients stand at the parameters."""

    tally: Tally
    state: State  # behind it, without graph, where the stream carries one
    parts: int  # into which each batch had to be cut, for want of memory
    lost: Sequence[str]  # what did not fit in memory even alone


@dataclass
class GroupReader:
    """Reads groups for one process; what does not fit in memory it reads in parts, to the same sums.

    Every process sees to itself: sums do not show in how many parts they were made.
    """

    objective: Objective
    vector: Tensor | None  # all gradients; None where nothing can be read again
    clear: Callable[[], None]  # sets all gradients to zero
    carries: bool  # whether state goes on from group to group
    run_seed: int
    processes: Processes
    device: torch.device
    state: State = None  # behind the last group: this process's rows
    count: int = 0  # groups read in this attempt,
    tight: int = 0  # and those for which memory ran out

    @property
    def often_tight(self) -> bool:
        """Whether memory ran out too often to go on with."""
        return self.count >= TIGHT_GROUPS and self.tight > TIGHT * self.count

    def seed(self, place: tuple[int, int]) -> None:
        """Make dropout a function of the position in the run, so that a resumed run needs no generator's state."""
        torch.manual_seed(seed_of(self.run_seed, *place, self.processes.rank))

    def rehearse(self, group: BatchGroup) -> None:
        """Read a group once for the memory that it takes; random numbers go on as if it had not been.

        Raises ResourceError if it does not fit.
        """
        training, random = self.objective.training, torch.get_rng_state()
        self.objective.train()
        try:
            self._pass(group, (0, 0), 1)
        except Exception as error:
            if not ran_out(error):
                raise
            raise too_large(f"the largest batch ({group.padded} target positions) does not fit") from None
        finally:
            self.clear()
            self.objective.train(training)
            torch.set_rng_state(random)

    def read(self, group: BatchGroup, place: tuple[int, int]) -> GroupGradients:
        """Gradients and losses of the group at an epoch and position; in twice as many parts until it fits.

        Raises ResourceError when it does not fit in single rows, or cannot be read twice.
        """
        self.count += 1
        count = 1
        while True:
            self.clear()
            self.seed(place)
            try:
                gradients = self._pass(group, place, count)
                break
            except Exception as error:
                if not ran_out(error):
                    raise
                if self.vector is None or count >= max(len(batch.targets.ids) for batch in group.batches):
                    raise too_large(f"a step did not fit ({group.padded} target positions)") from None
            free(self.device)
            count *= 2
        self.tight += count > 1
        return gradients

    @lost_process_reported()
    def _pass(self, group: BatchGroup, place: tuple[int, int], count: int) -> GroupGradients:
        tally = Tally(*torch.zeros(3, device=self.device))
        state, lost = self.state, []
        for number, batch in enumerate(group.batches):
            batch = batch.to(self.device)
            before = state if batch.continues else None
            states = []
            for rows, part in parts(batch, count):
                alone = count > 1 and len(rows) == 1
                kept = self.vector.clone() if alone and self.vector is not None else None
                try:
                    part_tally, after = self.objective(part, select(before, rows) if count > 1 else before)
                    states.append(map_state(Tensor.detach, after) if self.carries else None)
                    del after  # what a state refers to need not live as long as the backward pass
                    # The sum over all processes and batches, divided once by all of their tokens.
                    (part_tally.objective / max(1, group.tokens)).backward()
                    tally = tally + part_tally.detach()
                except Exception as error:
                    if self.vector is None or kept is None or not ran_out(error) or self.carries:
                        raise
                    self.vector.copy_(kept)
                    lost.append(self._name(group, place, number, int(rows)))
            state = join(states)
        return GroupGradients(tally, state, count, lost)

    def _name(self, group: BatchGroup, place: tuple[int, int], number: int, row: int) -> str:
        """How messages name a row of this process's slice of a batch."""
        if not group.examples:
            epoch, position = place
            return f"a row of epoch {epoch + 1}, group {position}"
        return str(group.examples[number][self.processes.rank + row * self.processes.world])


def too_large(what: str) -> ResourceError:
    """The error for memory that ran out, with what to do about it."""
    return ResourceError(
        f"out of memory: {what}",
        "halve train.batch_tokens and double train.accumulate: the results stay equal; "
        "or set train.recompute=true, or batch_tokens=auto at the start of a run",
    )
