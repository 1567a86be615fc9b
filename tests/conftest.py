"""One thread for each process: the tensors are tiny, and threads that wait for each other on a
busy machine cost more than they save."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, and for child processes
