"""One file per framework, `with_NAME.py`: how it builds a network described in `parts.py`, trains it and evaluates it.

An adapter imports the standard library, NumPy and `from .. import parts as w` at its top, and its framework only inside
functions, so that its programs can be read and checked where the framework is absent. It is loaded in two ways: as
`fluxion.compare.adapters.with_NAME` where Fluxion is, and under another package by `worker.py` where it is not; imports
between these files are therefore relative. It has, at module level:

    NAME = "torch"                       # what --with and --env call it
    TITLE = "PyTorch"
    NEEDS = ("torch",)                   # packages to import; without them it is skipped
    PROGRAMS = ("julia",)                # only where it also needs programs on the path
    PIP = ("torch", "--index-url", ...)  # the arguments of pip install, CPU builds; () where pip cannot
    ENVIRONMENT = {}                     # variables of its process, such as KERAS_BACKEND
    MODES = {"eager": "default", "channels_last": "images with channels last in memory", ...}  # the default one first
    def supports(workload, mode) -> bool | str: ...   # True; or why not, in words for the user
    def program(workload, mode) -> str: ...           # the program that a user would write; what is read is what runs
    def versions() -> dict[str, str]: ...
    def threads(count) -> None: ...
    class Session:
        def __init__(self, workload, weights, mode): ...  # the model with these weights, and its optimizer
        def prepare(self, batches): ...    # [(x, y), ...] in NumPy, as the loop below gets them
        def losses(self, prepared): ...    # a step on each; the loss before each step
        def train(self, prepared): ...     # the same, timed; returns when all is computed
        def epochs(self, x, y, count): ... # the framework's own way with arrays: new random order, whole batches only
        def evaluate(self, x, y): ...      # mean loss and accuracy, in batches of 1000, nothing dropped out
        def inputs(self, x): ...           # for inference: x as `forward` gets it; not timed
        def forward(self, inputs): ...     # the outputs before softmax, computed
        def restart(self): ...             # forget the optimizer's state; only where supports() allows workload.restart

`supports` is asked for every kind of workload (`workload.kind`): "compare" and "train" train, "infer" calls `forward`,
"start" is one step. Of a workload an adapter reads `network`, `shape`, `classes`, `batch`, `optimizer`, `loss`,
`penalty`, `restart`, `kind`; what it cannot do of these, `supports` says. Where one file serves several frameworks
(Keras on three backends), each has a file of its own that imports the shared one.

A program is text, rendered from the description by templates in the adapter, and run by `programs.execute`: a class of
torch cannot stand in a file that is imported without torch. The contract test has ruff read every program: no unknown
name, no unused import, and formatted as Python is. The program is everything but four things, which are the glue of
`Session`: the given weights instead of random ones, the layout of the arrays, the losses of single steps, waiting for
what is computed asynchronously. What differs between frameworks and could not be had otherwise, the adapter's first
lines say. Adam's epsilon stands outside of the bias correction in all of them: Keras, MXNet and scikit-learn have it
inside, and the losses of `fashion_mlp` would be 4 % apart after 50 steps; their programs show the subclass that moves
it.
"""
