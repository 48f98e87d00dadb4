"""``python -m attnlab``."""

import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["import-qna"]:  # as `cli.main` does, but without its imports of seconds
        from attnlab.interop.import_qna import main as import_qna

        import_qna(sys.argv[2:])
    else:
        from attnlab.cli import main

        main()
