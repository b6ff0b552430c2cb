"""Sound as spectra: windows, the short-time Fourier transform and its inverse, spectrograms, the mel scale, decibels.

Time is the last axis of a signal, `(..., time)`. A spectrum is `(..., frames, frequencies)`: frames are its time axis
and frequencies its features, as everywhere here. `torch`, `librosa` and NNlib exchange the two.

All is computed in float32 at least; half precision becomes float32.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DTypeError, ShapeError
from fluxion.ops.checks import host, whole

if TYPE_CHECKING:
    from jaxtyping import Array, Complex, Float

# Below this a sum of squared windows counts as 0, as it does in torch: the signal cannot be told from it.
NO_WINDOW = 1e-11


def hann_window(length: int, *, periodic: bool = True) -> Float[Array, " length"]:
    """`sin(pi * n / N)**2` for `n = 0, ..., length - 1`, where `N = length`, or `length - 1` if not `periodic`.

    Arguments: `periodic` windows are for `stft`, symmetric ones, which end with the 0 they begin with, for filters.
    Errors: ArgumentError for a length below 1. The numbers are those of `torch.hann_window`.

    >>> import fluxion as fx
    >>> print(fx.hann_window(4), fx.hann_window(3, periodic=False))
    [0.  0.5 1.  0.5] [0. 1. 0.]
    """
    return _cosine_window("hann_window", length, periodic, 0.5, 0.5)


def hamming_window(
    length: int, *, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46
) -> Float[Array, " length"]:
    """`alpha - beta * cos(2 * pi * n / N)` for `n = 0, ..., length - 1`, with `N` as for `hann_window`.

    Errors: ArgumentError for a length below 1. The numbers are those of `torch.hamming_window`.

    >>> import fluxion as fx
    >>> print(fx.hamming_window(4))
    [0.08 0.54 1.   0.54]
    """
    return _cosine_window("hamming_window", length, periodic, alpha, beta)


def stft(
    x: Float[Array, "... time"],
    n_fft: int,
    *,
    hop_length: int | None = None,
    window: Float[Array, " n"] | None = None,
    center: bool = True,
    normalized: bool = False,
) -> Complex[Array, "... frames frequencies"]:
    """Short-time Fourier transform: `sum_n window[n] * x[t * hop_length + n] * exp(-2j * pi * k * n / n_fft)`.

    Shapes: `(..., time)` in, complex `(..., frames, n_fft // 2 + 1)` out. There are `1 + time // hop_length` frames for
    an even `n_fft`, frame `t` about sample `t * hop_length`; without `center`, `1 + (time - n_fft) // hop_length`.

    Arguments:
      n_fft: samples of a frame.
      hop_length: samples from one frame to the next; `n_fft // 4` if it is left out.
      window: what frames are multiplied with; a shorter one than `n_fft` stands in the middle of zeros. Ones if it is
        left out, which blurs the spectrum: `hann_window(n_fft)` is the usual one.
      center: whether `n_fft // 2` samples are mirrored at both ends first.
      normalized: whether the result is divided by `sqrt(n_fft)`.

    Errors: ShapeError for a signal too short to be mirrored or to fill a frame, and for a window that is longer than
    `n_fft`; ArgumentError for a hop or a length below 1; DTypeError for a complex signal. The numbers are those of
    `torch.stft`, with the last two axes exchanged.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x = jnp.sin(2 * jnp.pi * 100 * jnp.arange(8000) / 8000)                      # one second of 100 Hz
    >>> spectrum = fx.stft(x, 400, window=fx.hann_window(400))
    >>> spectrum.shape, int(abs(spectrum[40]).argmax()) * 8000 / 400
    ((81, 201), 100.0)
    """
    name = "stft"
    n_fft, hop = whole(name, "n_fft", n_fft), _hop(name, hop_length, n_fft)
    x = _signal(name, x)
    weights = _window(name, window, n_fft, x.dtype)
    side = n_fft // 2
    if center:
        if side >= x.shape[-1]:
            raise ShapeError(
                f"{name}: expected at least {side + 1} samples, for n_fft // 2 are mirrored at the ends, "
                f"got {x.shape}. Use a smaller n_fft, a longer signal, or center=False."
            )
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(side, side)], mode="reflect")
    if x.shape[-1] < n_fft:
        raise ShapeError(
            f"{name}: expected at least n_fft = {n_fft} samples, got {x.shape}. Use a smaller n_fft or a longer signal."
        )
    frames = _frames(x, n_fft, hop)
    spectrum = jnp.fft.rfft(frames * weights.reshape((1,) * (frames.ndim - 1) + weights.shape))
    return spectrum / math.sqrt(n_fft) if normalized else spectrum


def istft(
    spectrum: Complex[Array, "... frames frequencies"],
    n_fft: int,
    *,
    hop_length: int | None = None,
    window: Float[Array, " n"] | None = None,
    center: bool = True,
    normalized: bool = False,
    length: int | None = None,
) -> Float[Array, "... time"]:
    """The signal whose `stft` with the same arguments is `spectrum`; the nearest one, if it is no signal's.

    Shapes: complex `(..., frames, n_fft // 2 + 1)` in, `(..., length)` out. The inverse transforms of the frames are
    multiplied with the window, added where they overlap, and divided by the sum of the squared windows.

    Arguments: those of `stft`, and `length`, the samples of the signal; without it, those from the middle of the first
    frame to the middle of the last one are returned, or all of them if not `center`.

    Errors: ArgumentError where the windows leave a sample out, as a Hann window without `center` does with the first
    (NaN there if the window's values are not known), and for a length beyond the last frame; ShapeError, DTypeError for
    what is no spectrum. The numbers are those of `torch.istft`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x, window = fx.randn(2, 1000), fx.hann_window(64)
    >>> spectrum = fx.stft(x, 64, window=window)
    >>> bool(jnp.allclose(fx.istft(spectrum, 64, window=window, length=1000), x, atol=1e-5))
    True
    """
    name = "istft"
    n_fft, hop = whole(name, "n_fft", n_fft), _hop(name, hop_length, n_fft)
    spectrum = jnp.asarray(spectrum)
    if not jnp.issubdtype(spectrum.dtype, jnp.complexfloating):
        raise DTypeError(f"{name}: expected a complex spectrum, as stft gives, got dtype {spectrum.dtype}.")
    if spectrum.ndim < 2 or spectrum.shape[-1] != n_fft // 2 + 1 or spectrum.shape[-2] == 0:
        raise ShapeError(
            f"{name}: expected a spectrum (..., frames, {n_fft // 2 + 1}) for n_fft = {n_fft}, got {spectrum.shape}. "
            "Frequencies are the last axis."
        )
    count = spectrum.shape[-2]
    most = n_fft + hop * (count - 1)
    start = n_fft // 2 if center else 0
    stop = most - start if length is None else start + whole(name, "length", length)
    if stop > most or stop <= start:
        raise ArgumentError(
            f"{name}: expected a length between 1 and {most - start}, as far as {count} frames reach, got "
            f"{stop - start}. Pad the signal before stft, or use more frames."
        )
    weights = _window(name, window, n_fft, jnp.finfo(spectrum.dtype).dtype)
    frames = jnp.fft.irfft(spectrum, n_fft) * weights.reshape((1,) * (spectrum.ndim - 1) + weights.shape)
    x = _overlapped(frames, hop)[..., start:stop]
    if normalized:
        x = x * math.sqrt(n_fft)
    total = _overlapped(jnp.broadcast_to(weights**2, (count, n_fft)), hop)[start:stop]
    _check_overlap(name, window, n_fft, hop, count, start, stop)
    total = jnp.where(total > NO_WINDOW, total, jnp.nan)
    return x / total.reshape((1,) * (x.ndim - 1) + total.shape)


def spectrogram(
    x: Float[Array, "... time"],
    n_fft: int,
    *,
    hop_length: int | None = None,
    window: Float[Array, " n"] | None = None,
    power: float = 2.0,
    center: bool = True,
    normalized: bool = False,
) -> Float[Array, "... frames frequencies"]:
    """`abs(stft(x, ...))**power`: how much of each frequency there is at each time.

    Shapes: `(..., time)` in, `(..., frames, n_fft // 2 + 1)` out. The gradient at a bin that is 0 is 0.

    Arguments: those of `stft`, and `power`, 2 for power, 1 for magnitude.
    Errors: those of `stft`; ArgumentError for a power that is not positive. As `NNlib.spectrogram`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.spectrogram(jnp.ones(8), 4, hop_length=2, center=False))
    [[16.  0.  0.]
     [16.  0.  0.]
     [16.  0.  0.]]
    """
    if not power > 0:
        raise ArgumentError(f"spectrogram: expected power > 0, got {power!r}. stft gives the complex spectrum.")
    spectrum = stft(x, n_fft, hop_length=hop_length, window=window, center=center, normalized=normalized)
    squares = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    if power == 2:
        return squares
    some = squares > 0
    return jnp.where(some, jnp.where(some, squares, 1) ** (power / 2), 0)


def melscale_filterbank(
    n_freqs: int, n_mels: int, sample_rate: float, *, f_min: float = 0.0, f_max: float | None = None
) -> Float[Array, "n_freqs n_mels"]:
    """Triangles over the frequencies of a spectrogram, evenly spaced on the mel scale `2595 * log10(1 + f / 700)`.

    `spectrogram @ melscale_filterbank(...)` is the mel spectrogram. Filter `i` rises from 0 at the `i`-th of
    `n_mels + 2` frequencies to 1 at the next one, and falls to 0 at the one after that.

    Shapes: `(n_freqs, n_mels)` out, in the default floating dtype.

    Arguments:
      n_freqs: frequencies of the spectrogram, `n_fft // 2 + 1`, evenly spaced from 0 to `sample_rate / 2`.
      n_mels: how many filters.
      sample_rate: samples per second of the signal.
      f_min: where the first filter begins, in Hz.
      f_max: where the last filter ends, in Hz; `sample_rate / 2` if it is left out.

    Errors: ArgumentError for numbers out of range. A filter so narrow that it falls between two frequencies is 0
    everywhere, as elsewhere; of that there is a warning. Source: the HTK scale, as in `NNlib.melscale_filterbanks` and
    `torchaudio.functional.melscale_fbanks`.

    >>> import fluxion as fx
    >>> bank = fx.melscale_filterbank(201, 40, 16_000)
    >>> bank.shape, bool((bank.max(axis=0) > 0).all())
    ((201, 40), True)
    """
    name = "melscale_filterbank"
    n_freqs, n_mels = whole(name, "n_freqs", n_freqs), whole(name, "n_mels", n_mels)
    if not sample_rate > 0:
        raise ArgumentError(f"{name}: expected sample_rate > 0, got {sample_rate!r}.")
    top = sample_rate / 2 if f_max is None else f_max
    if not 0 <= f_min < top <= sample_rate / 2:
        raise ArgumentError(
            f"{name}: expected 0 <= f_min < f_max <= {sample_rate / 2:g}, half the sample rate, got f_min={f_min!r} "
            f"and f_max={f_max!r}."
        )
    low, high = (2595 * math.log10(1 + f / 700) for f in (f_min, top))
    corners = 700 * (10 ** (np.linspace(low, high, n_mels + 2) / 2595) - 1)
    frequencies = np.linspace(0, sample_rate / 2, n_freqs)[:, None]
    rising = (frequencies - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - frequencies) / np.diff(corners)[1:]
    bank = np.maximum(np.minimum(rising, falling), 0)
    empty = np.flatnonzero(bank.max(axis=0) == 0)
    if empty.size:
        i = int(empty[0])
        warnings.warn(
            f"{name}: filter {i}, from {corners[i]:.1f} to {corners[i + 2]:.1f} Hz, contains none of {n_freqs} "
            f"frequencies and will always give 0. Use fewer than {n_mels} filters or a larger n_fft.",
            stacklevel=2,
        )
    return jnp.asarray(bank, jnp.result_type(float))


def mel_spectrogram(
    x: Float[Array, "... time"],
    n_fft: int,
    n_mels: int,
    sample_rate: float,
    *,
    hop_length: int | None = None,
    window: Float[Array, " n"] | None = None,
    power: float = 2.0,
    center: bool = True,
    normalized: bool = False,
    f_min: float = 0.0,
    f_max: float | None = None,
) -> Float[Array, "... frames n_mels"]:
    """`spectrogram(x, ...) @ melscale_filterbank(...)`: how much of each of `n_mels` bands of pitch there is.

    Shapes: `(..., time)` in, `(..., frames, n_mels)` out. Arguments and errors: those of the two functions.

    >>> import fluxion as fx
    >>> fx.mel_spectrogram(fx.randn(2, 16_000), 400, 40, 16_000, hop_length=160, window=fx.hann_window(400)).shape
    (2, 101, 40)
    """
    powers = spectrogram(
        x, n_fft, hop_length=hop_length, window=window, power=power, center=center, normalized=normalized
    )
    bank = melscale_filterbank(powers.shape[-1], n_mels, sample_rate, f_min=f_min, f_max=f_max)
    return powers @ bank.astype(powers.dtype)


def power_to_db(
    x: Float[Array, ...], *, reference: float = 1.0, amin: float = 1e-10, top_db: float | None = 80.0
) -> Float[Array, ...]:
    """Decibels, `10 * log10(max(x, amin) / max(reference, amin))`, none lower than `top_db` below the highest.

    Shapes: any; the highest is that of each spectrogram, the last two axes, so that the rows of a batch do not know of
    each other.

    Arguments: `reference` is the power called 0 dB, `amin` the least power told from 0; `top_db=None` cuts nothing off.
    Errors: ArgumentError for `amin <= 0`, `reference <= 0` or `top_db < 0`; DTypeError for complex numbers.
    The numbers are those of `librosa.power_to_db` and `NNlib.power_to_db` for one spectrogram.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.power_to_db(jnp.array([1000.0, 1.0, 0.0])))
    [ 30.   0. -50.]
    """
    name = "power_to_db"
    if not (amin > 0 and reference > 0 and (top_db is None or top_db >= 0)):
        raise ArgumentError(
            f"{name}: expected amin > 0, reference > 0 and top_db >= 0 or None, got amin={amin!r}, "
            f"reference={reference!r} and top_db={top_db!r}."
        )
    x = _wide(name, x)
    decibels = 10 / math.log(10) * jnp.log(jnp.maximum(x, amin)) - 10 * math.log10(max(reference, amin))
    if top_db is None or x.size == 0:
        return decibels
    peak = decibels.max(axis=tuple(range(max(x.ndim - 2, 0), x.ndim)), keepdims=True)
    return jnp.maximum(decibels, jnp.broadcast_to(peak - top_db, x.shape))


# Frames


def _frames(x: Array, size: int, hop: int) -> Array:
    """`(..., frames, size)`: pieces of the last axis, `hop` samples apart, as many as fit."""
    starts = hop * jnp.arange(1 + (x.shape[-1] - size) // hop)
    return jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(x, start, size, -1), out_axes=-2)(starts)


def _overlapped(frames: Array, hop: int) -> Array:
    """The sum of all frames, each where `_frames` takes it from: its transpose."""
    *batch, count, size = frames.shape
    signal = jax.ShapeDtypeStruct((*batch, size + hop * (count - 1)), frames.dtype)
    (total,) = jax.linear_transpose(lambda x: _frames(x, size, hop), signal)(frames)
    return total


def _check_overlap(name: str, window: Any, n_fft: int, hop: int, count: int, start: int, stop: int) -> None:
    """Refuse windows that leave a sample out, if their values are known."""
    values = np.ones(n_fft) if window is None else host(window)
    if values is None:
        return
    missing = n_fft - len(values)
    pieces = -(-n_fft // hop)  # each window as so many pieces of `hop` samples
    ahead = missing // 2
    squares = np.pad(values.astype(float) ** 2, (ahead, pieces * hop - ahead - len(values))).reshape(pieces, hop)
    total = np.zeros((count + pieces - 1, hop))
    for i in range(pieces):
        total[i : i + count] += squares[i]
    unseen = total.reshape(-1)[start:stop] <= NO_WINDOW
    if unseen.any():
        remedy = "Use a smaller hop_length" + ("." if start else ", or center=True, here and in stft.")
        raise ArgumentError(
            f"{name}: expected windows that overlap, got a sum of squares of 0 at sample {int(np.argmax(unseen))} with "
            f"hop_length={hop}: nothing is known of it. {remedy}"
        )


# The arguments


def _signal(name: str, x: Any) -> Array:
    x = _wide(name, x)
    if x.ndim == 0:
        raise ShapeError(f"{name}: expected a signal (..., time), got a single number.")
    return x


def _wide(name: str, x: Any) -> Array:
    """`x` as a floating array, of float32 at least."""
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise DTypeError(f"{name}: expected real numbers, got dtype {x.dtype}. Take their real part or modulus.")
    return x.astype(jnp.promote_types(x.dtype, jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else float)


def _window(name: str, window: Any, n_fft: int, dtype: Any) -> Array:
    """The window as `n_fft` numbers, zeros at both sides of a shorter one."""
    if window is None:
        return jnp.ones(n_fft, dtype)
    if callable(window):
        raise DTypeError(f"{name}: expected window to be an array, got a function. Call it: hann_window({n_fft}).")
    window = jnp.asarray(window)
    if window.ndim != 1 or not 1 <= window.shape[0] <= n_fft:
        raise ShapeError(f"{name}: expected a window of at most n_fft = {n_fft} numbers, got shape {window.shape}.")
    if jnp.issubdtype(window.dtype, jnp.complexfloating):
        raise DTypeError(f"{name}: expected a real window, got dtype {window.dtype}.")
    missing = n_fft - window.shape[0]
    return jnp.pad(window.astype(dtype), (missing // 2, missing - missing // 2))


def _cosine_window(name: str, length: int, periodic: bool, alpha: float, beta: float) -> Array:
    length = whole(name, "length", length)
    if length == 1:
        return jnp.ones(1)
    n = np.arange(length) / (length if periodic else length - 1)
    return jnp.asarray(alpha - beta * np.cos(2 * np.pi * n), jnp.result_type(float))


def _hop(name: str, hop_length: int | None, n_fft: int) -> int:
    return max(n_fft // 4, 1) if hop_length is None else whole(name, "hop_length", hop_length)
