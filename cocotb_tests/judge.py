"""Decides whether answers given while tables changed are sound (§3 of the design contract), from what happened when."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from nestwalk_sim.memory import Memory
from nestwalk_sim.model import ModelConfig, Request, Result, UnitState, translate

from .edits import Edit
from .expectations import compare_answer

__all__ = ["Judge"]

FAR = 50
"""Completed edits among which the one is looked for that an answer does not know of."""


class _Turning(Memory):
    """Memory in which a word changes before one of the reads."""

    def __init__(self, pages: dict[int, bytearray], edit: Edit, reads_before: int):
        super().__init__()
        self.pages = pages
        self._edit, self._left = edit, reads_before

    def read(self, address: int, size: int) -> bytes:
        if self._left == 0:
            self.write(self._edit.address, self._edit.content)
        self._left -= 1
        return super().read(address, size)


class Judge:
    """Judges the answers to one group of devices.

    An answer must be the model's for memory as it is after every change whose invalidation had completed when the
    answer came. If a change was under way, it may also be that for memory after the change, or for a walk that met the
    entry unchanged in its first reads and changed in its later ones.

    Parameters
    ----------
    memory : Memory
        Content before the first edit; changed by judging.
    state, config
        The unit.
    pool : sequence of Request
        Requests by the index that `judge` is given.
    edits : sequence of Edit
        In the order of time, no two under way at once.
    """

    def __init__(
        self, memory: Memory, state: UnitState, config: ModelConfig, pool: Sequence[Request], edits: Sequence[Edit]
    ):
        self._memory, self._state, self._config = memory, state, config
        self._pool, self._edits = pool, edits
        self._settled = 0
        self._undo: list[list[tuple[int, bytes]]] = []  # of each settled edit, what was there before
        self._known: dict[tuple[int, bool], Result] = {}
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def judge(self, indices: np.ndarray, answers: np.ndarray) -> None:
        """Judge all answers; ``indices`` tells which request of the pool each belongs to."""
        order = np.argsort(answers["response_cycle"], kind="stable")
        for index, answer in zip(indices[order], answers[order], strict=True):
            self._settle(int(answer["response_cycle"]))
            self._judge_one(int(index), answer)

    def _settle(self, cycle: int) -> None:
        while self._settled < len(self._edits) and self._edits[self._settled].done <= cycle:
            edit = self._edits[self._settled]
            undo = []
            for address, content in (*edit.prepare, (edit.address, edit.content), *edit.cleanup):
                self._memory.add_pages([address])
                undo.insert(0, (address, self._memory.read(address, len(content))))
                self._memory.write(address, content)
            self._undo.append(undo)
            self._settled += 1
            self._known.clear()

    def _judge_one(self, index: int, answer: np.void) -> None:
        accepted, answered = int(answer["accept_cycle"]), int(answer["response_cycle"])
        edit = self._edits[self._settled] if self._settled < len(self._edits) else None
        if edit is None or answered < edit.begun:
            problem = compare_answer(answer, self._result(index, None))
            self.counts["settled"] += 1
        elif not edit.covering and accepted >= edit.begun:
            # Nothing that was not present may be remembered.
            problem = compare_answer(answer, self._result(index, edit))
            self.counts["uncovered"] += 1
        else:
            problem = self._compare_under_way(index, answer, edit)
        if problem:
            lines = [f"{self._pool[index]} accepted at {accepted}, answered at {answered}: {problem}"]
            lines += [f"{age} before: {old}" for age, old in enumerate(self._since_right(index, answer))]
            self.problems.append("\n    ".join([*lines, f"next: {edit}"]))

    def _since_right(self, index: int, answer: np.void) -> Sequence[Edit]:
        """The latest settled edits, back to the one before which the answer was right."""
        memory = self._memory.copy()
        for age in range(1, min(self._settled, FAR) + 1):
            for address, content in self._undo[self._settled - age]:
                memory.write(address, content)
            result = translate(memory, self._state, self._config, self._pool[index], updating=False)
            if compare_answer(answer, result) is None:
                return self._edits[self._settled - age : self._settled][::-1]
        return []

    def _compare_under_way(self, index: int, answer: np.void, edit: Edit) -> str | None:
        old = self._result(index, None)
        problem = compare_answer(answer, old)
        if problem is None:
            self.counts["old"] += 1
            return None
        if compare_answer(answer, self._result(index, edit)) is None:
            self.counts["new"] += 1
            return None
        for reads in range(1, 2 * len(old.accesses)):
            before = self._memory.read(edit.address, len(edit.content))
            self._prepare(edit)
            turning = _Turning(self._memory.pages, edit, reads)
            result = translate(turning, self._state, self._config, self._pool[index], updating=False)
            self._memory.write(edit.address, before)
            if compare_answer(answer, result) is None:
                self.counts["mixed"] += 1
                return None
        return f"{problem}, or after the change under way {self._result(index, edit)[:6]}"

    def _prepare(self, edit: Edit) -> None:
        """Nothing leads to what this writes."""
        for address, content in edit.prepare:
            self._memory.add_pages([address])
            self._memory.write(address, content)

    def _result(self, index: int, edit: Edit | None) -> Result:
        """The model's answer with the settled edits, and one more."""
        key = index, edit is not None
        if key not in self._known:
            before = b""
            if edit is not None:
                self._prepare(edit)
                before = self._memory.read(edit.address, len(edit.content))
                self._memory.write(edit.address, edit.content)
            self._known[key] = translate(self._memory, self._state, self._config, self._pool[index], updating=False)
            if edit is not None:
                self._memory.write(edit.address, before)
        return self._known[key]
