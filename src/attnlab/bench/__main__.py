"""``python -m attnlab.bench``."""

from attnlab.bench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
