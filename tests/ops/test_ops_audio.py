"""Audio: torch's windows, transforms and gradients, SciPy's decibels and spectra; inverses, silence, refusals."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from against_torch import same_as_torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fluxion as fx

torch = pytest.importorskip("torch", reason="torch is the outside reference")
randomized = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.generate],  # to shrink a failure would compile for minutes
)


@pytest.mark.parametrize("length", [1, 2, 5, 400])
@pytest.mark.parametrize("periodic", [True, False])
def test_windows_are_torchs(length, periodic, x64):
    kinds = {"periodic": periodic, "dtype": torch.float64}
    for ours, theirs in (
        (fx.hann_window(length, periodic=periodic), torch.hann_window(length, **kinds)),
        (fx.hamming_window(length, periodic=periodic), torch.hamming_window(length, **kinds)),
        (
            fx.hamming_window(length, periodic=periodic, alpha=0.6, beta=0.3),
            torch.hamming_window(length, alpha=0.6, beta=0.3, **kinds),
        ),
    ):
        assert ours.dtype == jnp.float64
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@st.composite
def arguments(draw):
    n_fft = draw(st.integers(4, 17))
    window = draw(st.none() | st.integers(max(n_fft // 2, 3), n_fft))
    return {
        "n_fft": n_fft,
        "hop_length": draw(st.none() | st.integers(1, n_fft // 2)),
        "center": draw(st.booleans()),
        "normalized": draw(st.booleans()),
    }, window


def torch_stft(x, window, options):
    options = {"hop_length": None, **options}
    with warnings.catch_warnings():  # it writes into an array that it has not shaped
        warnings.simplefilter("ignore")
        flat = torch.stft(
            x.reshape(-1, x.shape[-1]),
            win_length=len(window),
            window=window,
            pad_mode="reflect",
            return_complex=True,
            **options,
        ).transpose(-1, -2)
    return flat.reshape(*x.shape[:-1], *flat.shape[-2:])


def both_parts(spectrum):
    return spectrum.real, spectrum.imag


@randomized
@given(arguments(), st.lists(st.integers(1, 2), max_size=2), st.integers(20, 40), st.integers(0, 2**32 - 1))
def test_stft_and_spectrogram_are_torchs(x64, arguments, batch, time, seed):
    """Signal and window are differentiated; without a window torch is given ones."""
    options, length = arguments
    random = np.random.default_rng(seed)
    x, window = random.normal(size=(*batch, time)), random.uniform(0.5, 1, length or options["n_fft"])

    def ours(x, window):
        given = window if length else None
        spectrum = fx.stft(x, window=given, **options)
        powers = (fx.spectrogram(x, window=given, power=p, **options) for p in (1, 1.3, 2))
        return (*both_parts(spectrum), *powers)

    def theirs(x, window):
        spectrum = torch_stft(x, window if length else torch.ones_like(window), options)
        return (*both_parts(spectrum), *(spectrum.abs() ** p for p in (1, 1.3, 2)))

    same_as_torch(ours, theirs, x, window)


@randomized
@given(
    arguments(), st.lists(st.integers(1, 2), max_size=1), st.integers(2, 5), st.booleans(), st.integers(0, 2**32 - 1)
)
def test_istft_is_torchs(x64, arguments, batch, frames, shorter, seed):
    """Of spectra that are no signal's too; spectrum and window are differentiated."""
    options, length = arguments
    n_fft, hop = options["n_fft"], options["hop_length"] or options["n_fft"] // 4
    random = np.random.default_rng(seed)
    real, imaginary = random.normal(size=(2, *batch, frames, n_fft // 2 + 1))
    window = random.uniform(0.5, 1, n_fft)  # a shorter one leaves samples out, see below
    reached = n_fft + hop * (frames - 1) - (2 * (n_fft // 2) if options["center"] else 0)
    cut = reached - 1 if shorter else None

    def ours(real, imaginary, window):
        return fx.istft(real + 1j * imaginary, window=window if length else None, length=cut, **options)

    def theirs(real, imaginary, window):
        spectrum = torch.complex(real, imaginary).reshape(-1, frames, n_fft // 2 + 1).transpose(-1, -2)
        weights = window if length else torch.ones_like(window)
        return torch.istft(spectrum, window=weights, length=cut, **options).reshape(*batch, -1)

    same_as_torch(ours, theirs, real, imaginary, window)


def test_istft_is_the_inverse(x64):
    """Where a sample is seen; with the window shorter than the frame, odd sizes, and without centering."""
    x = np.random.default_rng(0).normal(size=(2, 101))
    cases = [
        (16, {"window": fx.hann_window(16)}),
        (16, {"window": fx.hamming_window(11), "hop_length": 3, "normalized": True}),
        (15, {"window": fx.hann_window(15), "hop_length": 5}),
        (16, {"window": fx.hamming_window(16), "hop_length": 5, "center": False}),
        (1, {}),
    ]

    def there_and_back(n_fft, options):
        options = {"window": None, "center": True, **options}
        length = 101 if options["center"] else None
        return fx.istft(fx.stft(x, n_fft, **options), n_fft, length=length, **options)

    for y in jax.jit(lambda: [there_and_back(*case) for case in cases])():
        np.testing.assert_allclose(y, x[:, : y.shape[1]], rtol=1e-12, atol=1e-12)
        assert y.shape[1] >= 101  # that without centering reaches it


def test_silence_has_a_gradient(x64):
    """At a bin of 0 the slope of the modulus is 0, as torch's; so is that of its powers."""
    x = np.zeros(32)
    x[20:] = np.random.default_rng(0).normal(size=12)

    def total(x, p):
        return fx.spectrogram(x, 8, window=fx.hann_window(8), power=p).sum()

    slopes, curves = jax.jit(
        lambda x: [[jax.grad(total)(x, p) for p in (0.5, 1, 2, 3)], [jax.hessian(total)(x, p) for p in (1, 2)]]
    )(x)
    assert np.isfinite(slopes).all() and np.isfinite(curves).all()
    tensor = torch.tensor(x, requires_grad=True)
    torch_stft(tensor, torch.hann_window(8, dtype=torch.float64), {"n_fft": 8}).abs().sum().backward()
    np.testing.assert_allclose(slopes[1], tensor.grad, rtol=1e-10, atol=1e-12)
    assert not slopes[1][:8].any() and slopes[1][20:].all()


def test_mel_filters_are_triangles_on_the_htk_scale(x64):
    """The closed form: a piecewise linear function of the frequency, by `numpy.interp`."""
    for n_freqs, n_mels, rate, f_min, f_max in ((201, 23, 16_000, 0.0, None), (513, 40, 22_050, 20.0, 8000.0)):
        bank = fx.melscale_filterbank(n_freqs, n_mels, rate, f_min=f_min, f_max=f_max)
        mel = lambda f: 1127.0104805577 * np.log1p(f / 700)
        corners = np.interp(
            np.linspace(mel(f_min), mel(f_max or rate / 2), n_mels + 2),
            *(f(np.arange(0, 12_000, 0.01)) for f in (mel, lambda f: f)),
        )
        frequencies = np.arange(n_freqs) * rate / (2 * (n_freqs - 1))
        expected = [np.interp(frequencies, corners[i : i + 3], [0, 1, 0]) for i in range(n_mels)]
        np.testing.assert_allclose(bank, np.transpose(expected), atol=1e-6)
    assert bank.dtype == jnp.float64
    with pytest.warns(UserWarning, match="filter 0, from 0.0 to .* Hz, contains none of 201 frequencies .* than 128"):
        assert not fx.melscale_filterbank(201, 128, 16_000)[:, 0].any()


def test_mel_spectrogram_is_the_product_and_finds_a_tone():
    rate, options = 8000, {"hop_length": 200, "window": fx.hann_window(400)}
    tones = jnp.sin(2 * jnp.pi * jnp.array([[440.0], [1500.0]]) * jnp.arange(4000)[None] / rate)
    mels = fx.mel_spectrogram(tones, 400, 30, rate, f_min=100.0, f_max=3500.0, **options)
    bank = fx.melscale_filterbank(201, 30, rate, f_min=100.0, f_max=3500.0)
    np.testing.assert_allclose(mels, fx.spectrogram(tones, 400, **options) @ bank, rtol=1e-5)
    peaks = mels[:, 10].argmax(-1)
    assert [int(bank[:, i].argmax()) * 20 for i in peaks] == pytest.approx([440, 1500], abs=60)
    # SciPy scales its spectrum by the sum of the window, and counts both sides.
    window = np.asarray(options["window"])
    _, _, theirs = scipy.signal.spectrogram(
        np.asarray(tones), rate, window, 400, 200, detrend=False, mode="complex", scaling="spectrum"
    )
    ours = fx.spectrogram(tones, 400, center=False, **options)
    np.testing.assert_allclose(ours, np.moveaxis(abs(theirs * window.sum()) ** 2, 1, 2), rtol=1e-4, atol=1e-2)


def test_decibels(x64):
    x = np.random.default_rng(0).exponential(size=(3, 4, 5)) ** 9
    x[0, 0, 0] = 0
    for options in ({}, {"reference": 2.5, "amin": 1e-3, "top_db": 20.0}, {"top_db": None}):
        given = {"reference": 1.0, "amin": 1e-10, "top_db": 80.0, **options}
        expected = 10 * np.log10(np.maximum(x, given["amin"]) / given["reference"])
        if given["top_db"] is not None:  # below the highest of each spectrogram
            expected = np.maximum(expected, expected.max((1, 2), keepdims=True) - given["top_db"])
        same_as_torch(
            lambda x, options=options: fx.power_to_db(x, **options),
            lambda x, given=given: decibels_in_torch(x, **given),
            x,
        )
        np.testing.assert_allclose(fx.power_to_db(x, **options), expected, rtol=1e-12)
    np.testing.assert_allclose(fx.power_to_db(x[0, 0]), fx.power_to_db(x[0, :1])[0])
    assert fx.power_to_db(jnp.zeros((2, 0))).shape == (2, 0)


def decibels_in_torch(x, reference, amin, top_db):
    decibels = 10 * torch.log10(x.clamp(min=amin)) - 10 * np.log10(reference)
    return decibels if top_db is None else torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - top_db)


def test_dtypes():
    x = np.random.default_rng(0).normal(size=40)
    for dtype in (np.float16, jnp.bfloat16, np.float32, np.int16):
        signal = jnp.asarray(x * 100, dtype)  # half precision would overflow
        spectrum = jax.eval_shape(lambda x: fx.stft(x, 16), signal)
        assert spectrum.dtype == jnp.complex64
        mels = jax.eval_shape(lambda x: fx.power_to_db(fx.mel_spectrogram(x, 16, 3, 8000)), signal)
        assert mels.dtype == jnp.float32 and mels.shape == (11, 3)
        assert jax.eval_shape(lambda s: fx.istft(s, 16), spectrum).dtype == jnp.float32
    np.testing.assert_allclose(
        fx.spectrogram(x.astype(np.float16), 16), fx.spectrogram(x.astype(np.float16).astype(np.float32), 16), rtol=1e-5
    )


def test_unknown_windows_that_leave_a_sample_out_are_nan():
    spectrum = fx.stft(jnp.ones(40), 16, center=False)
    y = jax.jit(lambda w: fx.istft(spectrum, 16, window=w, center=False))(fx.hann_window(16))
    assert np.isnan(y[0]) and not np.isnan(y[1:]).any()


SIGNAL, SPECTRUM = jnp.ones((2, 40)), jnp.ones((2, 5, 9), jnp.complex64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fx.stft(SIGNAL, 0), fx.ArgumentError, "stft: expected a positive whole number for n_fft, got 0"),
        (lambda: fx.stft(SIGNAL, 16, hop_length=0), fx.ArgumentError, "whole number for hop_length, got 0"),
        (lambda: fx.stft(SIGNAL, 80), fx.ShapeError, r"stft: expected at least 41 samples, .* got \(2, 40\). Use"),
        (lambda: fx.stft(SIGNAL, 41, center=False), fx.ShapeError, r"at least n_fft = 41 samples, got \(2, 40\)"),
        (lambda: fx.stft(1.0, 4), fx.ShapeError, "stft: expected a signal .* got a single number"),
        (lambda: fx.stft(SIGNAL * 1j, 4), fx.DTypeError, "stft: expected real numbers, got dtype complex64"),
        (
            lambda: fx.stft(SIGNAL, 4, window=fx.hann_window(5)),
            fx.ShapeError,
            r"stft: expected a window of at most n_fft = 4 numbers, got shape \(5,\)",
        ),
        (
            lambda: fx.stft(SIGNAL, 4, window=fx.hann_window),
            fx.DTypeError,
            r"expected window to be an array, got a function. Call it: hann_window\(4\)",
        ),
        (lambda: fx.stft(SIGNAL, 4, window=jnp.ones(4) * 1j), fx.DTypeError, "stft: expected a real window"),
        (lambda: fx.istft(SIGNAL, 16), fx.DTypeError, "istft: expected a complex spectrum, .* got dtype float32"),
        (
            lambda: fx.istft(jnp.swapaxes(SPECTRUM, 1, 2), 16),
            fx.ShapeError,
            r"istft: expected a spectrum \(..., frames, 9\) for n_fft = 16, got \(2, 9, 5\). Frequencies are the last",
        ),
        (
            lambda: fx.istft(SPECTRUM, 16, length=25),
            fx.ArgumentError,
            "istft: expected a length between 1 and 24, as far as 5 frames reach, got 25",
        ),
        (
            lambda: fx.istft(SPECTRUM, 16, window=fx.hann_window(16), center=False),
            fx.ArgumentError,
            "windows that overlap, got a sum of squares of 0 at sample 0 with hop_length=4: .* or center=True",
        ),
        (
            lambda: jax.jit(lambda s: fx.istft(s, 16, hop_length=20))(SPECTRUM),
            fx.ArgumentError,
            "istft: expected windows that overlap, .* at sample 8 with hop_length=20: .* Use a smaller hop_length.",
        ),
        (lambda: fx.istft(SPECTRUM[:, :1], 16, length=0), fx.ArgumentError, "positive whole number for length, got 0"),
        (lambda: fx.spectrogram(SIGNAL, 4, power=0), fx.ArgumentError, "spectrogram: expected power > 0, got 0. stft"),
        (lambda: fx.hann_window(2.5), fx.ArgumentError, "hann_window: expected a positive whole number for length"),
        (lambda: fx.melscale_filterbank(9, 3, 0), fx.ArgumentError, "expected sample_rate > 0, got 0"),
        (
            lambda: fx.melscale_filterbank(9, 3, 8000, f_max=5000),
            fx.ArgumentError,
            "expected 0 <= f_min < f_max <= 4000, half the sample rate, got f_min=0.0 and f_max=5000",
        ),
        (lambda: fx.power_to_db(SIGNAL, amin=0), fx.ArgumentError, "power_to_db: expected amin > 0, .* got amin=0"),
        (lambda: fx.power_to_db(SIGNAL * 1j), fx.DTypeError, "power_to_db: expected real numbers"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
