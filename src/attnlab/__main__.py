"""``python -m attnlab``."""

import sys

from attnlab import commands

if __name__ == "__main__" and not commands.run(sys.argv[1:]):
    from attnlab.cli import main

    main()
