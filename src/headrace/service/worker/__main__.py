"""`python -m headrace.service.worker SOCKET`, as the supervisor starts it; SOCKET is an inherited file descriptor."""

from __future__ import annotations

import sys

from headrace.service.worker.process import main

if __name__ == "__main__":
    main(int(sys.argv[1]))
