"""A study as TensorBoard shows it: the columns of its HParams page, its question, its curves.

Each trial writes its own curves, pictures and row of the page into its run directory. What only
the study knows goes into a file of events beside them, as the run ``about``. A page without that
file shows every scalar as a column.
"""

import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnlab.ablation.plan import Plan
from attnlab.ablation.schema import Axis, Study
from attnlab.ablation.search.schema import Dimension, Range
from attnlab.files import write_atomically

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams.api_pb2 import HParamInfo

FILE = Path("about", "events.out.tfevents.0000000000.study")
"""Where the events are in a study's directory; TensorBoard looks for ``tfevents`` in a name."""
COSTS = ("model/parameters", "model/gflops", "perf/images_per_s", "perf/peak_memory_mib")
"""What every trial logs of its cost."""


def write(plan: Plan, space: Sequence[Dimension] = ()) -> None:
    """Write what TensorBoard needs to know of a study, unless it stands there already.

    Args:
        plan: The study; its directory is what TensorBoard is given as its ``--logdir``.
        space: What a search varies; the axes of the study when empty.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    varied = space or plan.study.axes
    events = io.BytesIO()
    records = RecordWriter(events)
    records.write(Event(file_version="brain.Event:2").SerializeToString())
    for summary in (_columns(plan.study, varied), _text(plan, varied), _curves(plan.study)):
        # Without the time: the same study gives the same bytes.
        records.write(Event(summary=summary).SerializeToString())
    path = plan.directory / FILE
    if not path.exists() or path.read_bytes() != events.getvalue():
        write_atomically(path, events.getvalue())


def line(plan: Plan) -> str:
    """Return the line that tells how to see it."""
    return f"dashboard: tensorboard --logdir {shlex.quote(str(plan.directory))}"


def _columns(study: Study, varied: Sequence[Dimension]) -> "Summary":
    """Return the columns of the HParams page: what is varied, the seed, metrics."""
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    seeds = Axis("seed", tuple((seed, {}) for seed in study.seeds), numeric=True)
    tags = dict.fromkeys((study.metric, *study.extra_metrics, *COSTS))
    experiment = api_pb2.Experiment(
        name=study.name,
        description=study.question,
        hparam_infos=[_column(each) for each in (*varied, seeds)],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in tags],
    )
    content = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    about = metadata.create_summary_metadata(content)
    return _summary(metadata.EXPERIMENT_TAG, about, [])


def _column(dimension: Dimension) -> "HParamInfo":
    from tensorboard.plugins.hparams import api_pb2

    info = api_pb2.HParamInfo(name=dimension.name, type=api_pb2.DATA_TYPE_FLOAT64)
    if isinstance(dimension, Range):
        info.domain_interval.min_value = dimension.low
        info.domain_interval.max_value = dimension.high
        return info
    labels = [label for label, _ in dimension.cells]
    if not dimension.numeric:
        texts = isinstance(labels[0], str)
        info.type = api_pb2.DATA_TYPE_STRING if texts else api_pb2.DATA_TYPE_BOOL
    info.domain_discrete.extend(labels)
    return info


def _text(plan: Plan, varied: Sequence[Dimension]) -> "Summary":
    """Return the question, and what is done to answer it, as Markdown."""
    from tensorboard.plugins.text import metadata

    study, profile = plan.study, plan.profile
    baseline = ", ".join(f"{name}={label}" for name, label in study.baseline.items())
    rows = {
        "study": study.name,
        "profile": f"{profile.name}: {profile.about}",
        **{each.name: _values(each) for each in varied},
        **({"baseline": baseline} if baseline else {}),
        "seeds": ", ".join(map(str, study.seeds)),
        "metric": f"{study.metric}, {study.direction}",
    }
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    text = f"### {study.question}\n\n| | |\n|---|---|\n{lines}\n"
    about = metadata.create_summary_metadata(display_name="question", description="")
    return _summary("question", about, [text.encode()])


def _values(dimension: Dimension) -> str:
    if isinstance(dimension, Range):
        return f"{dimension.low:g} to {dimension.high:g}" + (", log" if dimension.log else "")
    return ", ".join(str(label) for label, _ in dimension.cells)


def _curves(study: Study) -> "Summary":
    """Return the layout of the Custom Scalars page: learning curves, the study's metric first."""
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    tags = dict.fromkeys((f"val/{study.metric.rpartition('/')[2]}", "val/loss", "train/loss"))
    charts = [
        layout_pb2.Chart(title=tag, multiline=layout_pb2.MultilineChartContent(tag=[f"^{tag}$"]))
        for tag in tags
    ]
    category = layout_pb2.Category(title="learning curves", chart=charts)
    content = layout_pb2.Layout(category=[category]).SerializeToString()
    return _summary(metadata.CONFIG_SUMMARY_TAG, metadata.create_summary_metadata(), [content])


def _summary(tag: str, about: "SummaryMetadata", content: list[bytes]) -> "Summary":
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.util import tensor_util

    tensor = tensor_util.make_tensor_proto(content, dtype=DT_STRING, shape=[len(content)])
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=tensor)])
