"""Running a search: trials are asked for when there is room, watched, and told of."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from optuna.trial import TrialState

from attnlab.ablation import attempts
from attnlab.ablation.launch import Again, Ended, Job, Started
from attnlab.ablation.progress import PlainView
from attnlab.ablation.runner import Runner
from attnlab.ablation.search.ledger import Asked, Ledger
from attnlab.ablation.search.plan import SearchPlan, brief

WORDS = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass
class Drive:
    """One driver's share of a search.

    Attributes:
        found: The search.
        ledger: Where its trials come from.
        runner: Runs jobs, and answers Ctrl-C.
        view: Shows them.
    """

    found: SearchPlan
    ledger: Ledger
    runner: Runner
    view: PlainView

    def run(self) -> None:
        """Run trials until the search has as many as it is to have.

        Raises:
            UserError: Trials do not log the metric that the search is about. The running ones are
                killed, and taken up by the next start.
        """
        running: dict[str, Asked] = {}
        while not self.runner.interrupted and (first := self.ledger.ask()) is not None:
            jobs = self._jobs(first, running)
            with contextlib.closing(self.runner.events(jobs)) as events:
                for event in events:
                    if isinstance(event, Started):
                        self.view.started(running[event.job.name].trial)
                    elif isinstance(event, Again):
                        self.view.say(f"again {running[event.job.name].trial}: {event.reason}")
                    elif isinstance(event, Ended):
                        self._ended(running.pop(event.job.name), event)
                    else:
                        for asked in running.values():
                            self.ledger.watch(asked)
                        self.view.tick()

    def _jobs(self, first: Asked, running: dict[str, Asked]) -> Iterator[Job]:
        asked: Asked | None = first
        while asked is not None:
            trial = asked.trial
            running[str(trial.run_dir)] = asked
            yield Job(
                name=str(trial.run_dir),
                arguments=self.found.plan.arguments(trial),
                folder=trial.run_dir,
                seed=trial.seed,
            )
            asked = self.ledger.ask()

    def _ended(self, asked: Asked, event: Ended) -> None:
        trial = asked.trial
        failure = event.failure or attempts.read_failure(trial.run_dir)
        # What passes is not held against a trial that was not run again since the driver ends.
        passing = self.runner.interrupted and failure is not None and failure.kind.retried
        state = self.ledger.tell(asked, None if passing else failure)
        if state is None:
            self.view.ended(trial, f"stopped {trial}", ok=False)
            return
        metric = self.found.search.study.metric
        if state == TrialState.FAIL:
            reason = failure.error if failure else f"{metric} is not finite"
            line = f"{reason} (log: {event.job.log})"
        else:
            value = self.ledger.value(asked)
            line = f"{metric} {'-' if value is None else brief(value)}, {event.wall_s:.1f} s"
        self.view.ended(trial, f"{WORDS[state]} {trial}: {line}", ok=state != TrialState.FAIL)
