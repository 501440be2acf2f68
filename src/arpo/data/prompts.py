"""Counts prompts that contradict the protocol, for a line at the start of a run."""

from collections import Counter
from collections.abc import Iterable, Sequence

from arpo.protocols.config import ProtocolConfig
from arpo.protocols.teaching import prompt_faults
from arpo.tracking.progress import Progress
from arpo.types import Message, Task


class PromptCheck:
    """Compares prompts with a protocol, one after the other."""

    def __init__(self, protocol: ProtocolConfig) -> None:
        self._protocol = protocol
        self._faults = Counter[str]()
        self._num_prompts = 0

    def add(self, task: Task) -> None:
        """Count the prompt of a task."""
        self.add_prompt(task.messages)

    def add_prompt(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """Count a prompt and return what contradicts the protocol in it."""
        faults = prompt_faults(messages, self._protocol)
        self._num_prompts += 1
        self._faults.update(faults)
        return faults

    def report(self, progress: Progress) -> None:
        """Report each contradiction with the number of prompts that have it, and what to do."""
        for fault, number in self._faults.most_common(_MAX_REPORTED):
            progress.line(f"prompts: in {number} of {self._num_prompts} {fault}; {_ADVICE}")


def check_prompts(tasks: Iterable[Task], protocol: ProtocolConfig, progress: Progress) -> None:
    """Report what contradicts the protocol in the prompts of tasks."""
    prompts = PromptCheck(protocol)
    for task in tasks:
        prompts.add(task)
    prompts.report(progress)


_MAX_REPORTED = 3
_ADVICE = (
    "choose the protocol of the data, or leave its system message out with protocol.task_system_prompt = 'replace' or 'drop'"
)
