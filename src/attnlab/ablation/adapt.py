"""What the command line changes in a profile: options of the trials, and the devices of one."""

import dataclasses
from collections.abc import Sequence

import yaml

from attnlab.ablation import cells, parse
from attnlab.ablation.errors import UserError
from attnlab.ablation.schema import BUDGET_KEYS, Profile, Study


def adapt(
    profile: Profile,
    study: Study,
    settings: Sequence[str],
    devices: int | None,
    budget: str | None = None,
) -> Profile:
    """Return the profile with options set over its own, other GPUs per trial, another budget.

    Args:
        profile: What `ablations.yaml` says.
        study: The study to run, whose own options win over the profile's.
        settings: Texts ``key=value``, the key dotted and the value YAML; they are part of what a
            trial is, as the profile's own overrides are.
        devices: GPUs of one trial, 0 for none; the profile's own number when None.
        budget: Text ``unit=amount`` in place of the profile's budget, which stays when None.

    Raises:
        UserError: A setting is no ``key=value`` that a trial can take, the study or a budget sets
            its key, `devices` is negative, or `budget` is none.
    """
    if budget is not None:
        profile = _limited(profile, budget)
    points = (overrides for axis in study.axes for _, overrides in axis.cells)
    fixed = set(study.overrides).union(*points)
    given: dict[str, object] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set takes KEY=VALUE, not {setting!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {setting}: {' '.join(str(error).split())}") from error
        if key == "data.root":
            raise UserError(f"--set {setting}: where the data are is said by --data.root")
        if key in fixed:  # it would win, and the setting would change nothing
            raise UserError(f"--set {setting}: study {study.name} itself sets {key!r}")
        if profile.budget is not None:
            cells.check_budget(f"--set {setting}", [key], profile.budget, profile.name)
        given |= parse.overrides("--set", {key: value})
    if devices is not None and devices < 0:
        raise UserError(f"--devices-per-cell must be at least 0, not {devices}")
    return dataclasses.replace(
        profile,
        overrides={**profile.overrides, **given},
        gpus_per_cell=profile.gpus_per_cell if devices is None else devices,
    )


def _limited(profile: Profile, text: str) -> Profile:
    """Return the profile with the budget `text`, which all that limited it before gives way to."""
    unit, equals, amount = text.partition("=")
    complaint = f"--budget takes UNIT=AMOUNT, such as steps=800, not {text!r}"
    if not equals:
        raise UserError(complaint)
    try:
        limited = parse.budget("--budget", {unit: yaml.safe_load(amount)})
    except yaml.YAMLError:
        raise UserError(complaint) from None
    kept = {key: value for key, value in profile.overrides.items() if key not in BUDGET_KEYS}
    return dataclasses.replace(profile, overrides={**kept, **limited.overrides}, budget=limited)
