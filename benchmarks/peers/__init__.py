"""One file per framework that the scoreboard compares; `worker.py` says what is in each."""
