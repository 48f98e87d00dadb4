"""``python -m attnlab``."""

import sys

from attnlab import commands, stopping

if __name__ == "__main__":
    if sys.argv[1:2] == ["fit"]:
        stopping.install()  # before the imports, which take seconds
    if not commands.run(sys.argv[1:]):
        from attnlab.cli import main

        main()
