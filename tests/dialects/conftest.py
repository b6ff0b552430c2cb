"""The programs written for Keras are read as text by `test_keras_programs.py`, not imported."""

collect_ignore_glob = ["keras_programs/*"]
