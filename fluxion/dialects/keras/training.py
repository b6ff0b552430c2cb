"""`compile`, `fit`, `evaluate`, `predict`."""


class Trainer:
    """What `Model` inherits its training from."""
