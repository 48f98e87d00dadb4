"""Run an ablation study of `ablations.yaml`: `python run_ablation.py --help`."""

import sys

from attnlab.ablation.cli import main

if __name__ == "__main__":
    sys.exit(main())
