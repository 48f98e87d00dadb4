"""What is tested where."""

from importlib.util import find_spec

# Triton has no builds for Macs.
collect_ignore = [] if find_spec("triton") else ["test_fused.py"]
