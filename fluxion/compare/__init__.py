"""Frameworks side by side on the same work: `fluxion compare`, and the harness of `benchmarks/scoreboard.py`.

parts.py         a network, an optimizer, a loss in words of no framework; the first weights
workloads/       one file per workload: data, network, settings of the posts and what they published
adapters/        one file per framework; `adapters/__init__.py` says what is in each
programs.py      programs as text, and how such a text is run
worker.py        one measurement, in a fresh process of the interpreter that has the framework
processes.py     how such a process is run, and what is done with one that crashes or hangs
environments.py  which interpreter has which framework; setting one up
examples.py      data, first weights and the table of batches, as the processes get them
reference.py     the losses that every framework must show, in plain NumPy
protocol.py      what is run, in which order; `Comparing`
results.py       the measurements made so far, kept one by one
summary.py       spreads, verdicts, ratios
export.py        results.csv, and the tables and sentences of a terminal
pictures.py      the pictures
report.py        report.html; report.css is its style
markdown.py      the table of the front page

`results.json` is one object:

format, version       "fluxion.compare", 1
protocol              "fair" or "as-published"
date, fluxion         when (UTC, ISO 8601) and of which version the file was written last
machine               of `processes.machine`: processor, family, vectors, cores, system, python
settings              of `protocol.Settings`: names, frameworks, pythons, protocol, runs, seeds, threads, epochs,
                      limit, quick
workloads             by name: title, network, post, split, about, band ([low, high] of the test accuracy, or null)
runs                  by NAME, or NAME/VARIANT as published: data ("real" or "synthetic"), hashes, description
                      (`parts.to_json`), parameters; fair: reference (what, losses, tolerance, drift);
                      as published: faults, published, batches
frameworks            by name, in the order to show them: title, python, modes ({mode: title}); runs ({run: [mode]}) and
                      reasons ({run: {mode: why not}}), or missing (why) and remedy (what to do)
programs              list of: workload (a key of runs), framework, mode, title, lines, text
measurements          list, one per process: workload, variant ("" if fair), framework, mode, part ("timing" or
                      "accuracy"), run, threads, epochs, quick, data, cold, code, and `error`, or times ({column:
                      [seconds]}), memory (bytes), versions; of a timing losses, of accuracy curves: a list, per seed,
                      of seed, seconds, train loss, test loss, test accuracy and perhaps validation accuracy, by epoch
summary               list of `summary.summarize`: an entry for each mode of each framework, verdict and ratio included

Seconds and bytes throughout; a step, a batch, an epoch and an evaluation are each the time of one. null stands for a
number that is none (NaN, infinity), and for what was not measured.
"""
