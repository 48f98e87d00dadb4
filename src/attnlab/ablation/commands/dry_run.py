"""Saying what a study would run and cost, and running nothing."""

from attnlab.ablation import cells, resources
from attnlab.ablation import plan as planning
from attnlab.ablation.plan import Plan


def show(plan: Plan, workers: int | None) -> None:
    """Print every trial with its command line, and what those to run will cost.

    Args:
        plan: The study.
        workers: Trials at a time; what fits the machine when None.
    """
    profile = plan.profile
    environment = {"OMP_NUM_THREADS": str(profile.threads_per_cell)}
    if not profile.gpus_per_cell:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    results = plan.results()
    done = {result.trial.run_dir for result in results}
    python = resources.python()
    print(plan.title)
    for trial in plan.trials:
        print(f"\n{trial} ({'done' if trial.run_dir in done else 'to run'})")
        line = cells.command_line(plan.arguments(trial), environment, python)
        print(f"  {line}")
    count = workers or max(1, resources.room(profile))
    cost = planning.cost(plan, results, count)
    gpu_hours = cost.serial / 60 * profile.gpus_per_cell
    print(
        f"\nto run: {len(plan.trials) - len(done)} trials, {cost.serial:.1f} min one by one, "
        f"{cost.wall:.1f} min with {count} at a time"
        + (f", {gpu_hours:.1f} GPU-hours" if gpu_hours else "")
        + f" (estimated from {cost.source})"
    )
