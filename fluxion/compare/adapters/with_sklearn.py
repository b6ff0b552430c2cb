"""scikit-learn's MLPClassifier: dense networks only, without dropout.

`partial_fit` with a batch of `batch_size` rows is one step; with more rows it is an epoch in a new random order. Its
Adam puts epsilon inside of the bias correction, which the subclass in the program undoes, by way of private names.
What cannot be made equal: the step of Adam is computed in float64 by NumPy 2, the weights stay float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parts as w
from .. import programs

NAME = "sklearn"
TITLE = "scikit-learn"
NEEDS = ("sklearn",)
PIP = ("scikit-learn", "numpy")
ENVIRONMENT: dict[str, str] = {}
MODES = {"partial_fit": "MLPClassifier.partial_fit"}


def supports(workload: w.Workload, mode: str) -> bool | str:
    if programs.kinds(workload) != {w.Dense}:
        return "MLPClassifier has dense layers only, and no dropout"
    *hidden, last = (part.activation for part in workload.network if isinstance(part, w.Dense))
    if len(set(hidden)) != 1 or hidden[0] == "" or last != "":
        return "MLPClassifier has one activation for all hidden layers"
    if workload.loss != "cross entropy" or workload.penalty:
        return "MLPClassifier has only the cross entropy"
    return True


def versions() -> dict[str, str]:
    import sklearn

    return {"scikit-learn": sklearn.__version__, "numpy (scikit-learn)": np.__version__}


def threads(count: int) -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(count)


# ----------------------------------------------------------------------------------------- the program

ADAM = '''
class Adam(AdamOptimizer):
    """With epsilon outside of the bias correction, as in the paper and in the other frameworks."""

    def _get_updates(self, grads):
        self.epsilon = {epsilon} * (1 - self.beta_2 ** (self.t + 1)) ** 0.5
        return super()._get_updates(grads)
'''


def program(workload: w.Workload, mode: str) -> str:
    dense = [part for part in workload.network if isinstance(part, w.Dense)]
    hidden = ", ".join(str(part.outputs) for part in dense[:-1]) + "," * (len(dense) == 2)
    rule, sections = workload.optimizer, []
    imports = "import numpy as np\nfrom sklearn.neural_network import MLPClassifier"
    options = [f"hidden_layer_sizes=({hidden})", f'activation="{dense[0].activation}"']
    own = ""
    if isinstance(rule, w.Adam):
        imports += "\nfrom sklearn.neural_network._stochastic_optimizers import AdamOptimizer"
        sections.append(ADAM.replace("{epsilon}", programs.number(rule.epsilon)))
        betas = programs.betas(rule, ", {}, {}")
        rate = programs.number(rule.rate)
        own = f"\nmodel._optimizer = Adam(model.coefs_ + model.intercepts_, {rate}{betas})"
    else:
        momentum = rule.rho if isinstance(rule, w.Momentum) else 0
        options += ['solver="sgd"', f"learning_rate_init={programs.number(rule.rate)}"]
        options += [f"momentum={momentum}", "nesterovs_momentum=False"]
    options += ["alpha=0", f"batch_size={workload.batch}"]
    labels = f"np.arange({workload.classes})"
    first = f"np.zeros(({workload.classes}, {dense[0].inputs}), np.float32), {labels}, classes={labels}"
    built = f"""
model = MLPClassifier(
{programs.listed(options)}
)
model.partial_fit({first})  # makes the weights{own}
"""
    scored = "def predict(x):\n    return model.predict_proba(x)"
    if not workload.training:
        return programs.joined(imports, *sections, built, scored)
    return programs.joined(
        imports,
        *sections,
        built,
        """
def train(batches):
    losses = []
    for x, y in batches:
        losses.append(model.partial_fit(x, y).loss_)
    return losses
""",
        """
def fit(x, y, epochs):
    for _ in range(epochs):
        model.partial_fit(x, y)
""",
        """
def evaluate(x, y):
    probabilities = model.predict_proba(x)
    loss = -np.log(probabilities[np.arange(len(y)), y]).mean()
    return loss, (probabilities.argmax(-1) == y).mean()
""",
    )


# --------------------------------------------------------------------------------------------- the glue


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        import warnings

        warnings.filterwarnings("ignore", message="Got `batch_size` less than 1 or larger")  # of the first call
        self.workload = workload
        self.program = programs.execute(program(workload, mode), f"{workload.name} in scikit-learn, {mode}")
        self.model = self.program.model
        self.load(weights)
        if not isinstance(workload.optimizer, w.Adam):
            del self.model._optimizer  # it has made a step, with the call that made the weights

    def load(self, weights: dict[str, np.ndarray]) -> None:
        for i in range(len(self.workload.network)):
            self.model.coefs_[i][...] = weights[f"{i}.weight"]
            self.model.intercepts_[i][...] = weights[f"{i}.bias"]

    def prepare(self, batches: list[Any]) -> list[Any]:
        return batches

    def losses(self, batches: list[Any]) -> np.ndarray:
        return np.array(self.program.train(batches))

    def train(self, batches: list[Any]) -> None:
        self.program.train(batches)

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        whole = len(x) // self.workload.batch * self.workload.batch
        self.program.fit(x[:whole], y[:whole], count)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        return self.program.evaluate(x, y)

    def inputs(self, x: np.ndarray) -> Any:
        return x

    def forward(self, x: Any) -> Any:
        """The outputs before softmax."""
        kept, self.model.out_activation_ = self.model.out_activation_, "identity"
        outputs = self.model._forward_pass_fast(x)
        self.model.out_activation_ = kept
        return outputs

    def restart(self) -> None:
        optimizer = self.model._optimizer
        params = self.model.coefs_ + self.model.intercepts_
        self.model._optimizer = type(optimizer)(params, optimizer.learning_rate_init)
