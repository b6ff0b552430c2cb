"""Frameworks side by side on the same work: `fluxion compare`, and the harness of `benchmarks/scoreboard.py`.

parts.py         a network, an optimizer, a loss in words of no framework; the first weights
adapters/        one file per framework; `adapters/__init__.py` says what is in each
worker.py        one measurement, in a fresh process of the interpreter that has the framework
processes.py     how such a process is run, and what is done with one that crashes or hangs
results.py       the measurements made so far, kept one by one
"""
