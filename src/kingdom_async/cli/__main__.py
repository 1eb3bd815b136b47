"""``python -m kingdom_async.cli``, for where the command is not on the path."""

import sys

from kingdom_async.cli import main

if __name__ == "__main__":  # a worker process imports this file again
    sys.exit(main())
