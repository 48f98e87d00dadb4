"""Run an ablation study of `ablations.yaml`: `python run_ablation.py --help`."""

import sys

try:
    from attnlab.ablation.cli import main
except ModuleNotFoundError as error:
    sys.exit(
        f"run_ablation: error: {error.name} is not installed; pip install -e . or make ablation"
    )

if __name__ == "__main__":
    sys.exit(main())
