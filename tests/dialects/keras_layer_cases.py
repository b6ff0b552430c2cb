"""The layers that are compared with Keras': how each is made, and what it is given.

`record_keras_layers.py` writes down what Keras computes, and `test_keras_layers.py` compares Fluxion with that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

NOTHING: dict[str, Any] = {}


class Case(NamedTuple):
    """`make(layers)` is the layer; `inputs` are shapes, or arrays; `call` are more arguments of the call."""

    make: Callable[[Any], Any]
    inputs: tuple[Any, ...]
    call: dict[str, Any] = NOTHING
    random: bool = False  # whether training draws numbers, so that only inference can be compared
    spread: bool = False  # whether the inputs are arguments of the call each, rather than one list
    config: bool = True  # whether the configs are compared


def ints(*shape: int, below: int = 6) -> np.ndarray:
    return (np.arange(np.prod(shape)) * 7 % below).reshape(shape).astype("int32")


MASK = np.array([[True, True, False, True, False], [False, True, True, True, True]])
SEQ, IMAGE, VOLUME = (2, 5, 3), (2, 6, 5, 4), (2, 4, 5, 4, 2)

CASES: dict[str, Case] = {
    # Core
    "dense": Case(lambda k: k.Dense(4, activation="relu"), ((3, 5),)),
    "dense_3d": Case(lambda k: k.Dense(4, "tanh", use_bias=False, kernel_initializer="he_normal"), (SEQ,)),
    "dense_regularized": Case(
        lambda k: k.Dense(4, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2"), ((3, 5),)
    ),
    "einsum_dense": Case(lambda k: k.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d"), (SEQ,)),
    "einsum_dense_ellipsis": Case(
        lambda k: k.EinsumDense("...x,xy->...y", 4, bias_axes="y", activation="relu"), (SEQ,)
    ),
    "einsum_dense_heads": Case(lambda k: k.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de"), (SEQ,)),
    "embedding": Case(lambda k: k.Embedding(6, 3), (ints(2, 4),)),
    "embedding_masked": Case(lambda k: k.Embedding(6, 3, mask_zero=True, embeddings_regularizer="l2"), (ints(2, 4),)),
    "masking": Case(lambda k: k.Masking(0.5), (SEQ,)),
    "identity": Case(lambda k: k.Identity(), (SEQ,)),
    "lambda": Case(lambda k: k.Lambda(lambda x, n: x * n, arguments={"n": 2.0}), (SEQ,), config=False),
    # Activations
    "activation": Case(lambda k: k.Activation("gelu"), (SEQ,)),
    "relu": Case(lambda k: k.ReLU(max_value=0.8, negative_slope=0.2, threshold=0.1), (SEQ,)),
    "leaky_relu": Case(lambda k: k.LeakyReLU(), (SEQ,)),
    "prelu": Case(lambda k: k.PReLU(alpha_initializer="ones", shared_axes=[1]), (SEQ,)),
    "elu": Case(lambda k: k.ELU(0.7), (SEQ,)),
    "softmax": Case(lambda k: k.Softmax(), (SEQ,)),
    "softmax_axes": Case(lambda k: k.Softmax(axis=(1, 2)), (SEQ,)),
    # Convolutions
    "conv1d": Case(lambda k: k.Conv1D(4, 3, activation="relu"), (SEQ,)),
    "conv1d_causal": Case(lambda k: k.Conv1D(4, 2, padding="causal", dilation_rate=2), (SEQ,)),
    "conv2d": Case(lambda k: k.Conv2D(4, 3, strides=2, padding="same", activation="relu"), (IMAGE,)),
    "conv2d_even": Case(lambda k: k.Conv2D(2, (2, 4), strides=(1, 3), padding="same", use_bias=False), (IMAGE,)),
    "conv2d_groups": Case(lambda k: k.Conv2D(4, 3, groups=2), (IMAGE,)),
    "conv2d_dilated": Case(lambda k: k.Conv2D(4, 2, dilation_rate=(2, 1), padding="same"), (IMAGE,)),
    "conv3d": Case(lambda k: k.Conv3D(3, 2, strides=2, padding="same"), (VOLUME,)),
    "conv1d_transpose": Case(lambda k: k.Conv1DTranspose(4, 3, strides=2), (SEQ,)),
    "conv1d_transpose_wide": Case(lambda k: k.Conv1DTranspose(4, 2, strides=3, padding="same"), (SEQ,)),
    "conv2d_transpose": Case(lambda k: k.Conv2DTranspose(3, 3, strides=2, padding="same", activation="relu"), (IMAGE,)),
    "conv2d_transpose_valid": Case(lambda k: k.Conv2DTranspose(3, (2, 1), strides=(1, 3)), (IMAGE,)),
    "conv2d_transpose_output": Case(
        lambda k: k.Conv2DTranspose(3, (4, 3), strides=2, padding="same", output_padding=1), (IMAGE,)
    ),
    "conv2d_transpose_dilated": Case(lambda k: k.Conv2DTranspose(3, 2, dilation_rate=2, padding="same"), (IMAGE,)),
    "conv3d_transpose": Case(lambda k: k.Conv3DTranspose(3, 2, strides=2), (VOLUME,)),
    "depthwise_conv1d": Case(lambda k: k.DepthwiseConv1D(2, depth_multiplier=2), (SEQ,)),
    "depthwise_conv2d": Case(lambda k: k.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2), (IMAGE,)),
    "separable_conv1d": Case(lambda k: k.SeparableConv1D(4, 2, padding="same"), (SEQ,)),
    "separable_conv2d": Case(lambda k: k.SeparableConv2D(4, 3, depth_multiplier=2, activation="relu"), (IMAGE,)),
    # Pooling
    "max_pooling1d": Case(lambda k: k.MaxPooling1D(2, padding="same"), (SEQ,)),
    "max_pooling2d": Case(lambda k: k.MaxPooling2D(), (IMAGE,)),
    "max_pooling2d_same": Case(lambda k: k.MaxPooling2D(3, strides=2, padding="same"), (IMAGE,)),
    "max_pooling3d": Case(lambda k: k.MaxPooling3D(2), (VOLUME,)),
    "average_pooling1d": Case(lambda k: k.AveragePooling1D(2, strides=1), (SEQ,)),
    "average_pooling2d": Case(lambda k: k.AveragePooling2D(3, strides=2, padding="same"), (IMAGE,)),
    "average_pooling3d": Case(lambda k: k.AveragePooling3D(2, padding="same"), (VOLUME,)),
    "global_max_pooling1d": Case(lambda k: k.GlobalMaxPooling1D(), (SEQ,)),
    "global_max_pooling2d": Case(lambda k: k.GlobalMaxPooling2D(keepdims=True), (IMAGE,)),
    "global_max_pooling3d": Case(lambda k: k.GlobalMaxPooling3D(), (VOLUME,)),
    "global_average_pooling1d": Case(lambda k: k.GlobalAveragePooling1D(), (SEQ,), {"mask": MASK}),
    "global_average_pooling2d": Case(lambda k: k.GlobalAveragePooling2D(), (IMAGE,)),
    "global_average_pooling3d": Case(lambda k: k.GlobalAveragePooling3D(keepdims=True), (VOLUME,)),
    # Normalization
    "batch_normalization": Case(lambda k: k.BatchNormalization(), (IMAGE,)),
    "batch_normalization_axis": Case(lambda k: k.BatchNormalization(axis=1, momentum=0.8, scale=False), (IMAGE,)),
    "batch_normalization_masked": Case(lambda k: k.BatchNormalization(center=False), (SEQ,), {"mask": MASK}),
    "layer_normalization": Case(lambda k: k.LayerNormalization(), (SEQ,)),
    "layer_normalization_axes": Case(lambda k: k.LayerNormalization(axis=[1, 2], epsilon=1e-5, center=False), (SEQ,)),
    "group_normalization": Case(lambda k: k.GroupNormalization(2), (IMAGE,)),
    "group_normalization_each": Case(lambda k: k.GroupNormalization(-1, scale=False), (IMAGE,), config=False),
    "rms_normalization": Case(lambda k: k.RMSNormalization(), (SEQ,)),
    "unit_normalization": Case(lambda k: k.UnitNormalization(axis=(1, 2)), (SEQ,)),
    # Regularization
    "dropout": Case(lambda k: k.Dropout(0.4), (SEQ,), random=True),
    "spatial_dropout1d": Case(lambda k: k.SpatialDropout1D(0.4), (SEQ,), random=True),
    "spatial_dropout2d": Case(lambda k: k.SpatialDropout2D(0.4), (IMAGE,), random=True),
    "spatial_dropout3d": Case(lambda k: k.SpatialDropout3D(0.4), (VOLUME,), random=True),
    "gaussian_noise": Case(lambda k: k.GaussianNoise(0.4), (SEQ,), random=True),
    "gaussian_dropout": Case(lambda k: k.GaussianDropout(0.4), (SEQ,), random=True),
    "alpha_dropout": Case(lambda k: k.AlphaDropout(0.4), (SEQ,), random=True),
    "activity_regularization": Case(lambda k: k.ActivityRegularization(l1=0.1, l2=0.2), (SEQ,)),
    # Reshaping
    "flatten": Case(lambda k: k.Flatten(), (IMAGE,)),
    "reshape": Case(lambda k: k.Reshape((-1, 3)), ((2, 5, 6),)),
    "permute": Case(lambda k: k.Permute((2, 1)), (SEQ,)),
    "repeat_vector": Case(lambda k: k.RepeatVector(3), ((2, 4),)),
    "up_sampling1d": Case(lambda k: k.UpSampling1D(3), (SEQ,)),
    "up_sampling2d": Case(lambda k: k.UpSampling2D((2, 3)), (IMAGE,)),
    "up_sampling2d_bilinear": Case(lambda k: k.UpSampling2D(2, interpolation="bilinear"), (IMAGE,)),
    "up_sampling3d": Case(lambda k: k.UpSampling3D(2), (VOLUME,)),
    "zero_padding1d": Case(lambda k: k.ZeroPadding1D((1, 2)), (SEQ,)),
    "zero_padding2d": Case(lambda k: k.ZeroPadding2D(((0, 1), (2, 1))), (IMAGE,)),
    "zero_padding3d": Case(lambda k: k.ZeroPadding3D((1, 0, 2)), (VOLUME,)),
    "cropping1d": Case(lambda k: k.Cropping1D((1, 2)), (SEQ,)),
    "cropping2d": Case(lambda k: k.Cropping2D(((0, 1), (2, 1))), (IMAGE,)),
    "cropping3d": Case(lambda k: k.Cropping3D((1, 1, 0)), (VOLUME,)),
    # Merging
    "add": Case(lambda k: k.Add(), (SEQ, SEQ, SEQ)),
    "subtract": Case(lambda k: k.Subtract(), (SEQ, SEQ)),
    "multiply": Case(lambda k: k.Multiply(), (SEQ, (2, 1, 3))),
    "average": Case(lambda k: k.Average(), (SEQ, SEQ)),
    "maximum": Case(lambda k: k.Maximum(), (SEQ, SEQ)),
    "minimum": Case(lambda k: k.Minimum(), (SEQ, SEQ)),
    "concatenate": Case(lambda k: k.Concatenate(axis=1), (SEQ, (2, 4, 3))),
    "dot": Case(lambda k: k.Dot(axes=(1, 2)), ((2, 5, 3), (2, 4, 5))),
    "dot_normalized": Case(lambda k: k.Dot(axes=1, normalize=True), ((2, 5), (2, 5))),
    # Attention
    "attention": Case(lambda k: k.Attention(use_scale=True), ((2, 4, 3), SEQ)),
    "attention_masked": Case(
        lambda k: k.Attention(score_mode="concat"), (SEQ, SEQ), {"mask": [MASK, MASK], "use_causal_mask": True}
    ),
    "additive_attention": Case(lambda k: k.AdditiveAttention(), ((2, 4, 3), SEQ)),
    "multi_head_attention": Case(lambda k: k.MultiHeadAttention(2, 4), ((2, 4, 3), SEQ), spread=True),
    "multi_head_attention_masked": Case(
        lambda k: k.MultiHeadAttention(2, 4, output_shape=5, use_bias=False),
        (SEQ, SEQ),
        {"attention_mask": MASK[:, None, :] & np.ones((2, 5, 1), bool), "use_causal_mask": True},
        spread=True,
    ),
    # Recurrent
    "simple_rnn": Case(lambda k: k.SimpleRNN(4), (SEQ,)),
    "simple_rnn_state": Case(
        lambda k: k.SimpleRNN(4, "relu", return_sequences=True, return_state=True, go_backwards=True), (SEQ,)
    ),
    "lstm": Case(lambda k: k.LSTM(4), (SEQ,)),
    "lstm_sequences": Case(lambda k: k.LSTM(4, return_sequences=True, return_state=True), (SEQ,), {"mask": MASK}),
    "lstm_backwards": Case(
        lambda k: k.LSTM(4, return_sequences=True, go_backwards=True, unit_forget_bias=False), (SEQ,), {"mask": MASK}
    ),
    "lstm_hard": Case(lambda k: k.LSTM(4, activation="relu", recurrent_activation="hard_sigmoid"), (SEQ,)),
    "gru": Case(lambda k: k.GRU(4, bias_initializer="glorot_uniform"), (SEQ,)),
    "gru_before": Case(lambda k: k.GRU(4, reset_after=False, return_sequences=True), (SEQ,), {"mask": MASK}),
    "gru_sequences": Case(
        lambda k: k.GRU(4, return_sequences=True, zero_output_for_mask=True, use_bias=False), (SEQ,), {"mask": MASK}
    ),
    "gru_dropout": Case(lambda k: k.GRU(4, dropout=0.3, recurrent_dropout=0.2), (SEQ,), random=True),
    "rnn": Case(lambda k: k.RNN([k.LSTMCell(4), k.GRUCell(3)], return_sequences=True), (SEQ,), config=False),
    "bidirectional": Case(lambda k: k.Bidirectional(k.LSTM(4)), (SEQ,), config=False),
    "bidirectional_masked": Case(
        lambda k: k.Bidirectional(k.GRU(4, return_sequences=True), merge_mode="sum"),
        (SEQ,),
        {"mask": MASK},
        config=False,
    ),
    "bidirectional_state": Case(
        lambda k: k.Bidirectional(k.LSTM(3, return_sequences=True, return_state=True), merge_mode=None),
        (SEQ,),
        config=False,
    ),
    "time_distributed": Case(lambda k: k.TimeDistributed(k.Dense(4, activation="relu")), (SEQ,), config=False),
    # Preprocessing
    "rescaling": Case(lambda k: k.Rescaling(0.5, offset=[1.0, 2.0, 3.0]), (SEQ,)),
    "normalization_given": Case(lambda k: k.Normalization(mean=[1.0, 2.0, 0.5], variance=[4.0, 0.5, 1.0]), (SEQ,)),
    "normalization_inverted": Case(lambda k: k.Normalization(None, 2.0, 4.0, invert=True), (SEQ,)),
    "category_encoding": Case(lambda k: k.CategoryEncoding(6), (ints(2, 4),)),
    "category_encoding_one_hot": Case(lambda k: k.CategoryEncoding(6, "one_hot"), (ints(2, 4),)),
    "category_encoding_count": Case(lambda k: k.CategoryEncoding(6, "count"), (ints(2, 4),)),
    "discretization": Case(lambda k: k.Discretization([-0.5, 0.1, 0.6]), (SEQ,)),
    "discretization_one_hot": Case(lambda k: k.Discretization([-0.5, 0.1], output_mode="one_hot"), (SEQ,)),
    "resizing": Case(lambda k: k.Resizing(4, 7), (IMAGE,)),
    "center_crop": Case(lambda k: k.CenterCrop(3, 2), (IMAGE,)),
    "random_flip": Case(lambda k: k.RandomFlip(), (IMAGE,), random=True),
    "random_zoom": Case(lambda k: k.RandomZoom((0.3, 0.3), (-0.2, -0.2)), (IMAGE,)),
    "random_translation": Case(
        lambda k: k.RandomTranslation((0.3, 0.3), (-0.2, -0.2), fill_mode="constant", fill_value=0.5), (IMAGE,)
    ),
    "random_rotation": Case(lambda k: k.RandomRotation((0.1, 0.1), fill_mode="nearest"), (IMAGE,)),
    "random_contrast": Case(lambda k: k.RandomContrast((0.0, 0.0), value_range=(-1, 1)), (IMAGE,)),
}


def data_of(case: Case) -> list[np.ndarray]:
    """The inputs of a case: numbers around 0, the same each time."""
    made = []
    for i, given in enumerate(case.inputs):
        if isinstance(given, np.ndarray):
            made.append(given)
        else:
            made.append(np.random.default_rng(i).standard_normal(given).astype("float32"))
    return made


def argument_of(case: Case, arrays: list[Any]) -> tuple[Any, ...]:
    """The positional arguments of the call."""
    return tuple(arrays) if case.spread or len(arrays) == 1 else (list(arrays),)


def shapes_of(case: Case, layer: Any) -> Any:
    """The shapes that a layer of Fluxion's is built for."""
    from fluxion.dialects.keras.layer import call_spec

    return call_spec(type(layer)).shapes(argument_of(case, data_of(case)), {})


def weights_of(shapes: list[tuple[int, ...]], names: list[str]) -> list[np.ndarray]:
    """Weights for every comparison: around 0, variances positive."""
    made = []
    for i, (shape, name) in enumerate(zip(shapes, names, strict=True)):
        numbers = np.random.default_rng(100 + i).standard_normal(shape).astype("float32") * 0.5
        made.append(np.abs(numbers) + 0.5 if "variance" in name else numbers)
    return made


def plain(config: Any) -> Any:
    """A config without what differs by nature: names, dtypes, the way tuples are written."""
    if isinstance(config, dict):
        left_out = ("name", "dtype", "registered_name", "build_config", "quantization_config", "lora_rank")
        return {key: plain(value) for key, value in config.items() if key not in left_out}
    if isinstance(config, list | tuple):
        return [plain(item) for item in config]
    return round(config, 6) if isinstance(config, float) else config
