"""`compile`, `fit`, `evaluate`, `predict` and their kin over single batches: what a `Model` inherits.

`fit` runs the engine's loop (`fluxion.train.run`) on the engine's compiled step. After an exception the model is
that of the last completed step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fluxion
from fluxion.dialects.keras import metrics as keras_metrics
from fluxion.dialects.keras import optimizers as keras_optimizers
from fluxion.dialects.keras.callbacks import CallbackList, History, TerminateOnNaN, as_list, sorted_logs
from fluxion.dialects.keras.compiled import Spec, StepLoss, note, own_metrics
from fluxion.dialects.keras.display import Bar, Epochs, check_verbose
from fluxion.dialects.keras.feeding import arrays_of, as_batch, feed, first_batch, split_off, unpacked
from fluxion.dialects.keras.names import known_arguments
from fluxion.errors import ArgumentError, NonFiniteError, StateError, user_frames
from fluxion.train.callbacks import Callbacks, FitContext
from fluxion.train.evaluate import Scoring
from fluxion.train.run import Run
from fluxion.train.step import Objective, Training
from fluxion.transform.modes import gradient_mode
from fluxion.transform.randomness import next_seed
from fluxion.transform.sizes import abstract_call

# Methods of Keras' trainer that mean nothing here if they are overridden.
NOT_OVERRIDDEN = ("train_step", "test_step", "predict_step", "make_train_function", "compute_metrics")


class Compiled:
    """What a model keeps of its training. To the engine's walk all of them are alike: they are no part of the model."""

    def __init__(self) -> None:
        self.optimizer: Any = None
        self.spec: Spec | None = None
        self.arguments: dict[str, Any] = {}
        self.stop_training = False
        self.history: History | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compiled)

    def __hash__(self) -> int:
        return 0

    def __deepcopy__(self, memo: Any) -> Compiled:
        return Compiled()


class Trainer:
    """The methods of a `Model` that train it."""

    _compiled: Compiled | None = None

    # ---------------------------------------------------------------------------------------- compile

    @known_arguments
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Say how the model is trained.

        Arguments:
          optimizer: a name or an object of `keras.optimizers`.
          loss: a name, function or object of `keras.losses`; for several outputs a list, or a dict by their names.
          loss_weights: what each output's loss is multiplied with.
          metrics: a list of names, functions or objects of `keras.metrics`; for several outputs a list of lists, or a
            dict by their names. "accuracy" is the kind that fits loss and shapes.
          weighted_metrics: metrics to which `sample_weight` and `class_weight` apply.
          jit_compile: True or "auto": steps are always compiled.
          steps_per_execution: any number; as many steps as fit into a tenth of a second are made in one call anyway.
        """
        if run_eagerly or jit_compile not in ("auto", True, None):
            raise ArgumentError(
                "compile: steps are always compiled; run_eagerly and jit_compile=False are not supported."
            )
        overridden = [n for n in NOT_OVERRIDDEN if n in dir(type(self)) and not hasattr(Trainer, n)]
        if overridden:
            raise ArgumentError(
                f"compile: an overridden {overridden[0]} is not supported. Override compute_loss, or write the loop "
                "with optimizer.stateless_apply and model.stateless_call."
            )
        compiled = Compiled()
        compiled.optimizer = keras_optimizers.get(optimizer)
        compiled.spec = Spec(loss, loss_weights, metrics, weighted_metrics, lambda: output_names(self))
        given = {"loss_weights": loss_weights, "metrics": metrics, "weighted_metrics": weighted_metrics}
        compiled.arguments = {"optimizer": compiled.optimizer, "loss": loss, **given}
        self._compiled = compiled

    def _trained(self, caller: str) -> Compiled:
        if self._compiled is None:
            raise StateError(f"{caller}: expected a compiled model. Call model.compile(optimizer, loss) first.")
        return self._compiled

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._compiled is not None

    @property
    def optimizer(self) -> Any:
        """The optimizer that `compile` was given."""
        return None if self._compiled is None else self._compiled.optimizer

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        self._trained("optimizer").optimizer = keras_optimizers.get(value)

    @property
    def loss(self) -> Any:
        """The loss that `compile` was given."""
        return None if self._compiled is None else self._compiled.arguments["loss"]

    @property
    def stop_training(self) -> bool:
        """Whether training is to end after this epoch or step; callbacks set it."""
        return self._compiled is not None and self._compiled.stop_training

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        self._trained("stop_training").stop_training = bool(value)

    @property
    def history(self) -> Any:
        """What the last `fit` returned."""
        return None if self._compiled is None else self._compiled.history

    @property
    def metrics(self) -> list[Any]:
        """The metrics: that of the loss, those of `compile` once a batch was seen, and the model's own."""
        spec = None if self._compiled is None else self._compiled.spec
        named = {} if spec is None else spec.named_metrics or {}
        return [keras_metrics.Mean("loss"), *(metric for metric, _, _ in named.values()), *own_metrics(self)]

    @property
    def metrics_names(self) -> list[str]:
        """The names of the metrics."""
        return [metric.name for metric in self.metrics]

    def get_compile_config(self) -> dict[str, Any]:
        """What `compile` was given, by name."""
        return {} if self._compiled is None else dict(self._compiled.arguments)

    # ---------------------------------------------------------------------------------------- the loss

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss of a batch: that of `compile`, and what layers add or regularize. Override it as you like."""
        compiled = self._trained("compute_loss")
        assert compiled.spec is not None
        loss, named = compiled.spec.compute(y, y_pred, sample_weight)
        note(named)
        added = [jnp.sum(value) for value in self.losses]  # type: ignore[attr-defined]
        terms = [*([] if loss is None else [loss]), *added]
        return sum(terms[1:], terms[0]) if terms else jnp.zeros(())

    # ---------------------------------------------------------------------------------------- fit

    @user_frames
    @known_arguments
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Iterable[int] = 1,
    ) -> History:
        """Train for some epochs; returns a `History`.

        Arguments:
          x: an array, a list or dict of arrays; or a `DataLoader`, a `PyDataset` or an iterable of batches.
          y: the targets, in the same form.
          batch_size: 32 by default, for arrays.
          epochs: the number of the last epoch; `initial_epoch` were done before.
          verbose: 1 or "auto" for a bar, 2 for one line an epoch, 0 for nothing.
          callbacks: `keras.callbacks`.
          validation_split: the share at the end of the arrays, before shuffling, that is held out.
          validation_data: `(x, y)` or `(x, y, sample_weight)`, or batches.
          class_weight: a weight by class; sample_weight: one for each example.
          steps_per_epoch, validation_steps: after how many batches an epoch, a validation ends.
          validation_freq: in each how many epochs, or in which ones (from 1), to validate.

        Errors are the engine's, and say what came and where; see `fluxion.fit`.
        """
        compiled = self._trained("fit")
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise ArgumentError(f"fit: expected epochs of at least 1, got {epochs!r}.")
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split_off((x, y, sample_weight), validation_split)
        options = {"batch_size": batch_size, "steps": steps_per_epoch, "class_weight": class_weight}
        batches = feed(x, y, sample_weight, shuffle=shuffle, **options)  # type: ignore[arg-type]
        first, batches = first_batch(batches)
        self._prepare(first)
        size = batch_size if validation_batch_size is None else validation_batch_size

        context = FitContext(model=self, opt=self._bound(), epochs=epochs, epoch=initial_epoch)
        steps = _length(batches)
        params = {"verbose": verbose, "epochs": epochs, "steps": steps, "gaps": validation_freq != 1}
        listed = CallbackList(callbacks, self, params)
        history = next((c for c in listed.callbacks if isinstance(c, History)), None) or History()
        history.set_params(params)
        history.set_model(self)
        compiled.stop_training, compiled.history = False, history
        validation = None
        if validation_data is not None:
            data = feed_validation(validation_data, size, validation_steps)
            due = _due(validation_freq)

            def validation() -> dict[str, float]:
                if not due(context.epoch):
                    return {}
                scores = self._score(data, listed, compiled)
                return {f"val_{name}": value for name, value in scores.items()}

        own = [] if history in listed.callbacks else [history]
        if listed.callbacks:  # without callbacks several short epochs may be one call of compiled code
            listed.callbacks += own
        else:
            history.on_train_begin()
        alone = not listed.callbacks

        def logs(row: Mapping[str, Any]) -> Mapping[str, float]:
            if not alone:
                return listed.logs
            values = CallbackList.logs_of(row)
            history.on_epoch_end(int(row["epoch"]) - 1, values)
            return values

        level = check_verbose(verbose)
        display = Epochs(epochs, steps, level, lambda: sorted_logs(context.means()), logs)
        objective = self._objective()
        run = Run(
            context,
            batches,
            lambda batch: objective,
            callbacks=Callbacks([] if alone else [listed]),
            validate=validation,
            display=display,
        )
        try:
            run.go()
        except NonFiniteError:
            display.bar.abandon()
            terminating = [c for c in listed.callbacks if isinstance(c, TerminateOnNaN)]
            if not terminating or any(c.raise_error for c in terminating):
                raise
            print(f"Batch {context.opt.step}: Invalid loss, terminating training")
            listed.tell("on_train_end", listed.logs)
        except BaseException:
            display.bar.abandon()
            raise
        return history

    def _objective(self) -> Objective:
        spec = self._trained("fit").spec
        assert spec is not None
        return Objective(StepLoss(spec))

    def _prepare(self, batch: Any) -> None:
        """Build the model and resolve losses and metrics, with a batch to look at."""
        compiled = self._trained("fit")
        assert compiled.spec is not None
        x, y, _ = unpacked(batch)
        model: Any = self
        if not model.built or not all(layer.built for layer in model._flatten_layers()):
            model.build_on(x)
        if compiled.spec.losses is None:
            shapes = [
                jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), jnp.result_type(a)), part) for part in (x, y)
            ]
            y_pred = abstract_call(model, (shapes[0],))
            compiled.spec.resolve(shapes[1], y_pred)

    def _bound(self) -> Any:
        """The engine's optimizer of this model."""
        model: Any = self
        frozen = [layer for layer in model._flatten_layers() if not layer.trainable]
        opt = self._trained("fit").optimizer.bind(self, frozen)
        if opt.seed is None:
            opt.seed = next_seed()
        return opt

    # ---------------------------------------------------------------------------------------- evaluate, predict

    @user_frames
    @known_arguments
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """The loss and the metrics over data, in inference mode: a number, a list, or with `return_dict` a dict."""
        compiled = self._trained("evaluate")
        batches = feed(x, y, sample_weight, batch_size=batch_size, steps=steps, caller="evaluate")
        first, batches = first_batch(batches)
        self._prepare(first)
        verbose = check_verbose(verbose)
        listed = CallbackList(callbacks, self, {"verbose": verbose, "epochs": 1, "steps": _length(batches)})
        bar = Bar(_length(batches), verbose)
        scores = self._score(batches, listed, compiled, bar)
        bar.end(sorted_logs(scores))
        return scores if return_dict else self._in_order(scores)

    def _score(
        self, batches: Iterable[Any], listed: CallbackList, compiled: Compiled, bar: Bar | None = None
    ) -> dict[str, float]:
        """The loss and the metrics over batches."""
        objective, scoring = self._objective(), Scoring(self)
        watched = listed.wants("on_test_batch_begin", "on_test_batch_end")
        listed.tell("on_test_begin", {})
        for i, batch in enumerate(batches):
            if watched:
                listed.tell("on_test_batch_begin", i, {})
            scoring.add(objective, batch)
            if watched:
                listed.tell("on_test_batch_end", i, sorted_logs(scoring.numbers()))
            if bar is not None:
                bar.step(1, lambda: sorted_logs(scoring.so_far()))
        scores = sorted_logs(scoring.numbers())
        listed.tell("on_test_end", scores)
        return scores

    def _in_order(self, scores: Mapping[str, float]) -> Any:
        """The loss, the losses of several outputs, then the metrics: as given, for several outputs sorted by name."""
        spec = self._trained("evaluate").spec
        named = {} if spec is None else spec.named_metrics or {}
        several = [f"{name}_loss" for name in output_names(self) or [] if f"{name}_loss" in scores]
        names = [n for n in ["loss", *(several or named)] if n in scores]
        values = [scores[n] for n in [*names, *(n for n in scores if n not in names)]]
        return values[0] if len(values) == 1 else values

    @user_frames
    @known_arguments
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs for `x`, in inference mode, as NumPy arrays."""
        batches = feed(x, batch_size=batch_size, steps=steps, caller="predict")
        first, batches = first_batch(batches)
        self._build_on(first)
        listed = CallbackList(callbacks, self, {"verbose": verbose, "epochs": 1, "steps": _length(batches)})
        bar = Bar(_length(batches), check_verbose(verbose))
        forward = Forward(self)
        listed.tell("on_predict_begin", {})
        outputs = []
        for i, batch in enumerate(batches):
            listed.tell("on_predict_batch_begin", i, {})
            outputs.append(forward(unpacked(batch)[0]))
            if listed.callbacks:
                listed.tell("on_predict_batch_end", i, {"outputs": outputs[-1]})
            bar.step(1, dict)
        listed.tell("on_predict_end", {})
        bar.end({})
        return jax.tree.map(lambda *parts: np.concatenate([np.asarray(part) for part in parts]), *outputs)

    @user_frames
    @known_arguments
    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch."""
        batch = arrays_of(x)
        self._build_on((batch,))
        return jax.tree.map(np.array, Forward(self)(batch))

    @user_frames
    @known_arguments
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One step on one batch; returns loss and metrics, as `evaluate` does."""
        batch = as_batch(x, y, sample_weight, class_weight, "train_on_batch")
        self._prepare(batch)
        training = Training(self._objective(), self, self._bound())
        training.run([batch])
        scores = training.numbers(batch)
        return scores if return_dict else self._in_order(scores)

    @user_frames
    @known_arguments
    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics of one batch, in inference mode."""
        compiled = self._trained("test_on_batch")
        batch = as_batch(x, y, sample_weight, None, "test_on_batch")
        self._prepare(batch)
        scores = self._score([batch], CallbackList(None, self, {}), compiled)
        return scores if return_dict else self._in_order(scores)

    def _build_on(self, batch: Any) -> None:
        model: Any = self
        if not model.built or not all(layer.built for layer in model._flatten_layers()):
            model.build_on(unpacked(batch)[0])


class Forward:
    """The model in inference mode, compiled; a short last batch is filled up, so that nothing is compiled for it."""

    def __init__(self, model: Any) -> None:
        self.call = fluxion.jit(model)
        self.largest = 0

    def __call__(self, x: Any) -> Any:
        length = len(jax.tree.leaves(x)[0])
        self.largest = max(self.largest, length)
        if length < self.largest:
            rows = np.minimum(np.arange(self.largest), length - 1)
            x = jax.tree.map(lambda part: part[rows], x)
        with gradient_mode(False):
            outputs = self.call(x)
        return jax.tree.map(lambda part: part[:length], outputs)


def feed_validation(data: Any, batch_size: int | None, steps: int | None) -> Iterable[Any]:
    """The batches of `validation_data`."""
    if isinstance(data, list | tuple):
        x, y, w = unpacked(data)
        return feed(x, y, w, batch_size=batch_size, steps=steps, caller="validation_data")
    return feed(data, steps=steps, caller="validation_data")


def output_names(model: Any) -> list[str] | None:
    """The names of a functional model's outputs: those of the layers that give them."""
    graph = getattr(model, "graph", None)
    return None if graph is None else [tensor.node.operation.name for tensor in graph.output_tensors]


def _due(freq: Any) -> Callable[[int], bool]:
    """Whether to validate after an epoch, counted from 1."""
    if isinstance(freq, int) and not isinstance(freq, bool) and freq >= 1:
        return lambda epoch: epoch % freq == 0
    if isinstance(freq, Iterable) and not isinstance(freq, str):
        chosen = set(freq)
        return lambda epoch: epoch in chosen
    raise ArgumentError(f"fit: expected validation_freq as a number of epochs, or a list of epochs, got {freq!r}.")


def _length(batches: Iterable[Any]) -> int | None:
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:
        return None


__all__ = ["Trainer", "as_list"]
