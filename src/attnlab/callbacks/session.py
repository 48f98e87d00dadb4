"""A finished run in TensorBoard's HParams page."""

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter


@rank_zero_only
def log_session(
    logger: TensorBoardLogger, hparams: Mapping[str, bool | int | float | str], seed: int | None
) -> None:
    """Let TensorBoard list the run of `logger` as finished, with what an ablation varies in it.

    Called once a run has ended well, and only then: the page lists no run that failed or still
    runs. A run that is called for twice, after a restart, stays one row. Its columns of metrics
    are the last values of scalars, and which ones are shown is said once for a study, by the
    driver: a run knows neither the metrics nor the values of the others. Without a driver the page
    shows them all.

    Args:
        logger: The logger of the run.
        hparams: Names and values; booleans stay booleans, which torch's own writer makes numbers.
        seed: The seed of the run, which tells it from others of its cell.
    """
    start = plugin_data_pb2.SessionStartInfo()
    varied = dict(hparams) if seed is None else {**hparams, "seed": seed}
    for name, value in varied.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    contents = (
        (metadata.SESSION_START_INFO_TAG, {"session_start_info": start}),
        (metadata.SESSION_END_INFO_TAG, {"session_end_info": end}),
    )
    with SummaryWriter(logger.log_dir) as writer:  # that of the logger is closed when a fit ends
        for tag, content in contents:
            about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
            value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
            writer.file_writer.add_summary(Summary(value=[value]))
