"""What is tested where."""

import sys

# Triton is built for Linux only; there the test extra brings it, and its absence is an error.
collect_ignore = [] if sys.platform == "linux" else ["test_fused.py"]
