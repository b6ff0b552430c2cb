"""Augmentation: every function does what its definition says, to each image by itself, as the key decides.

The draws are read back from the results, on images made for it, and checked against torch, SciPy, colorsys and loops of
the definitions on others with the same key.
"""

import colorsys
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

import fluxion as fx
from fluxion.data.augmentation import _beta

RANDOM = np.random.default_rng(0)
KEY = jax.random.key(7)
IMAGES = RANDOM.random((24, 10, 8, 3)).astype(np.float32)
PLACES = np.broadcast_to(
    np.stack(np.meshgrid(np.arange(10.0), np.arange(8.0), indexing="ij"), -1), (24, 10, 8, 2)
).astype(np.float32)
LABELS = RANDOM.integers(0, 4, 24).astype(np.int32)

MOVES = {
    "flip": lambda x, key=None: fx.random_flip(x, key=key),
    "crop": lambda x, key=None: fx.random_crop(x, 3, key=key),
    "cutout": lambda x, key=None: fx.cutout(x, 3, key=key),
    "cutmix": lambda x, key=None: fx.cutmix(x, np.arange(len(x)) % 4, classes=4, key=key)[0],
}
FLOATS = {
    "shift": lambda x, key=None: fx.random_shift(x, 0.3, key=key),
    "rotation": lambda x, key=None: fx.random_rotation(x, 40, key=key),
    "mixup": lambda x, key=None: fx.mixup(x, np.arange(len(x)) % 4, classes=4, key=key)[0],
    "color": lambda x, key=None: fx.color_jitter(x, 0.3, 0.3, 0.3, 0.2, key=key),
    "gray": lambda x, key=None: fx.grayscale(x, 0.5, key=key),
    "noise": lambda x, key=None: fx.gaussian_noise(x, key=key),
}
ALL = MOVES | FLOATS


# ---------------------------------------------------------------------------------------- what all have in common


@pytest.mark.parametrize("name", ALL)
def test_the_key_decides(name):
    f = ALL[name]
    first = np.asarray(f(IMAGES, KEY))
    assert first.shape == IMAGES.shape and first.dtype == np.float32
    np.testing.assert_array_equal(f(IMAGES, KEY), first)
    assert (first != np.asarray(f(IMAGES, jax.random.key(8)))).any()
    assert (first != IMAGES).any()

    with fx.randomness(jax.random.key(3)):  # as a training step and a loader have it
        a, b = f(IMAGES), f(IMAGES)
    with fx.randomness(jax.random.key(3)):
        np.testing.assert_array_equal(f(IMAGES), a)
    assert (np.asarray(a) != np.asarray(b)).any()


def test_they_compile_and_vectorize():
    f = fx.jit(lambda x: fx.random_flip(fx.random_crop(x)))
    assert (np.asarray(f(IMAGES)) != np.asarray(f(IMAGES))).any()  # fresh draws at each call
    keys = jax.random.split(KEY)
    for name in ("crop", "color", "cutmix"):
        two = jax.jit(jax.vmap(ALL[name]))(np.stack([IMAGES, IMAGES]), keys)
        np.testing.assert_allclose(two[1], ALL[name](IMAGES, keys[1]), atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_each_image_draws_for_itself_and_alone(name):
    same = np.broadcast_to(IMAGES[:1], IMAGES.shape)
    if name in ("mixup", "cutmix"):  # here it is the partners that differ
        same = same.copy()
        same[1:] = IMAGES[1:]
    results = np.asarray(ALL[name](same, KEY))
    kinds = len(np.unique(results.reshape(24, -1).round(5), axis=0))
    assert kinds == 2 if name in ("flip", "gray") else kinds > 10
    if name not in ("mixup", "cutmix"):
        other = same.copy()
        other[5] = 0.5
        rest = np.arange(24) != 5
        np.testing.assert_allclose(np.asarray(ALL[name](other, KEY))[rest], results[rest], atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_dtypes_and_shapes(name):
    f = ALL[name]
    wide = np.asarray(f(IMAGES, KEY))
    result = f(jnp.asarray(IMAGES, jnp.bfloat16), KEY)
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(result, np.float32), wide, atol=0.1 if name == "noise" else 0.03)
    if name in MOVES:
        whole = (IMAGES * 255).astype(np.uint8)
        result = f(whole, KEY)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, f(whole.astype(np.float32), KEY))
    else:
        with pytest.raises(fx.DTypeError, match=r"expected images of a floating dtype, got uint8. Use images.astype"):
            f((IMAGES * 255).astype(np.uint8))
    for wrong in (IMAGES[0], IMAGES[0, 0], IMAGES[None], IMAGES[:, :0]):
        with pytest.raises(fx.ShapeError, match=r"expected images \(N, height, width, channels\), got shape"):
            f(wrong)
    with pytest.raises(fx.ShapeError, match=r"A single image has a batch axis too: image\[None\]"):
        f(IMAGES[0])


def test_an_empty_batch_stays_one():
    for name in ("crop", "mixup", "color"):
        assert ALL[name](IMAGES[:0], KEY).shape == (0, 10, 8, 3)


@pytest.mark.parametrize("name", ["crop", "shift", "mixup"])
def test_gradients_are_those_of_a_linear_map(name):
    f = ALL[name]
    weights = RANDOM.normal(size=IMAGES.shape).astype(np.float32)
    (gradient,) = fx.gradient(lambda x: jnp.vdot(weights, f(x, KEY)), jnp.asarray(IMAGES))
    direction = RANDOM.normal(size=IMAGES.shape).astype(np.float32)
    expected = np.vdot(weights, np.asarray(f(IMAGES + direction, KEY)) - np.asarray(f(IMAGES, KEY)))
    np.testing.assert_allclose(np.vdot(gradient, direction), expected, rtol=1e-3, atol=1e-2)


def test_a_step_of_training_augments_in_its_loss():
    model = fx.Dense(3, 4)
    opt = fx.setup(fx.Descent(0.1), model)

    def loss(model, x, y):
        x, y = fx.mixup(fx.random_flip(fx.random_crop(x)), y, classes=4)
        return fx.logitcrossentropy(model(x.mean((1, 2))), y)

    assert np.isfinite(fx.trainstep(loss, model, (IMAGES, LABELS), opt))


# ------------------------------------------------------------------------------------------------------- moves


def test_flips_are_mirror_images_half_of_the_time():
    for direction, axes in (("horizontal", [2]), ("vertical", [1]), ("both", [1, 2])):
        many = np.broadcast_to(IMAGES[:1], (400, 10, 8, 3))
        results = np.asarray(fx.random_flip(many, direction, key=KEY))
        mirrored = [np.flip(many, axis) for axis in axes]
        kinds = [many, *mirrored] + ([np.flip(mirrored[0], 2)] if direction == "both" else [])
        which = np.stack([(results == kind).all((1, 2, 3)) for kind in kinds])
        assert (which.sum(0) == 1).all()
        assert stats.chisquare(which.sum(1)).pvalue > 1e-3
    np.testing.assert_array_equal(fx.random_flip(IMAGES, p=0.0), IMAGES)
    np.testing.assert_array_equal(fx.random_flip(IMAGES, "vertical", p=1.0), IMAGES[:, ::-1])


@pytest.mark.parametrize(
    ("mode", "padding", "size"),
    [("constant", 2, None), ("reflect", (3, 1), None), ("constant", (1, 0), (7, 5)), ("reflect", 0, 4)],
)
def test_crops_are_pieces_of_the_padded_image(mode, padding, size):
    high, wide = padding if isinstance(padding, tuple) else (padding, padding)
    out = (10, 8) if size is None else size if isinstance(size, tuple) else (size, size)
    numbered = np.arange(1, 300 * 10 * 8 + 1, dtype=np.float32).reshape(300, 10, 8, 1)
    results = np.asarray(fx.random_crop(numbered, padding, size=size, mode=mode, key=KEY))
    padded = np.pad(numbered, ((0, 0), (high, high), (wide, wide), (0, 0)), mode)
    rows, columns = 10 + 2 * high - out[0] + 1, 8 + 2 * wide - out[1] + 1
    seen = np.zeros((rows, columns))
    for result, image in zip(results, padded, strict=True):
        found = [
            (i, j)
            for i in range(rows)
            for j in range(columns)
            if (image[i : i + out[0], j : j + out[1]] == result).all()
        ]
        assert len(found) == 1
        seen[found[0]] += 1
    assert (seen > 0).all() and stats.chisquare(seen.ravel()).pvalue > 1e-3
    filled = np.asarray(fx.random_crop(numbered, 2, value=-1.0, key=KEY))
    assert filled.min() == -1 and not (filled == 0).any()


def test_shifts_are_those_of_torch():
    torch = pytest.importorskip("torch", reason="torch.nn.functional.grid_sample is the outside reference")
    for fraction in (0.3, (0.0, 0.35)):
        down, right = fraction if isinstance(fraction, tuple) else (fraction, fraction)
        # Where the middle of the image came from says how far it was moved.
        from_ = np.asarray(fx.random_shift(PLACES, fraction, key=KEY))[:, 5, 4]
        offset = from_ - [5, 4]
        assert (abs(offset) <= np.array([down * 10, right * 8]) + 1e-4).all()
        assert right == 0 or stats.kstest(offset[:, 1], stats.uniform(-right * 8, 2 * right * 8).cdf).pvalue > 1e-3
        theta = torch.zeros(24, 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = 1
        theta[:, 0, 2], theta[:, 1, 2] = (torch.tensor(2 * offset[:, i] / side) for i, side in ((1, 8), (0, 10)))
        grid = torch.nn.functional.affine_grid(theta, (24, 3, 10, 8), align_corners=False)
        x = torch.tensor(IMAGES).permute(0, 3, 1, 2)
        expected = torch.nn.functional.grid_sample(x, grid, align_corners=False).permute(0, 2, 3, 1)
        np.testing.assert_allclose(fx.random_shift(IMAGES, fraction, key=KEY), expected, atol=1e-4)
        filled = np.asarray(fx.random_shift(IMAGES - 1, fraction, value=-1, key=KEY))
        np.testing.assert_allclose(filled, expected - 1, atol=1e-4)
    np.testing.assert_allclose(fx.random_shift(IMAGES, 0), IMAGES, atol=1e-6)


def test_rotations_are_those_of_torch_and_scipy():
    torch = pytest.importorskip("torch", reason="torch.nn.functional.grid_sample is the outside reference")
    square, places = IMAGES[:, :8], PLACES[:, :8]
    turned = np.asarray(fx.random_rotation(places, 40.0, key=KEY))
    step = turned[:, 4, 4] - turned[:, 4, 3]  # one pixel to the right came from there
    angles = np.arctan2(step[:, 0], step[:, 1])
    np.testing.assert_allclose(np.hypot(*step.T), 1, rtol=1e-4)
    assert (abs(angles) <= math.radians(40) + 1e-4).all() and np.ptp(angles) > 1
    theta = np.zeros((24, 2, 3), np.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = np.cos(angles)
    theta[:, 0, 1], theta[:, 1, 0] = -np.sin(angles), np.sin(angles)
    x, one = (torch.tensor(a).permute(0, 3, 1, 2) for a in (square, np.ones_like(square)))
    grid = torch.nn.functional.affine_grid(torch.tensor(theta), (24, 3, 8, 8), align_corners=False)
    expected, inside = (
        torch.nn.functional.grid_sample(a, grid, align_corners=False).permute(0, 2, 3, 1).numpy() for a in (x, one)
    )
    results = np.asarray(fx.random_rotation(square, 40.0, key=KEY))
    np.testing.assert_allclose(results[inside > 0.9999], expected[inside > 0.9999], atol=1e-4)
    assert (results[inside < 0.01] == 0).all()

    oblong = np.asarray(fx.random_rotation(IMAGES, 40.0, value=0.5, key=KEY))
    for image, result, angle in zip(IMAGES, oblong, angles, strict=True):
        expected = ndimage.rotate(image, math.degrees(angle), (1, 0), reshape=False, order=1, cval=0.5, prefilter=False)
        assert (abs(expected - result) < 1e-3).mean() > 0.97  # at the very border a rounding decides


def test_cutout_covers_a_square_around_a_pixel():
    ones = np.ones((2000, 6, 5, 2), np.float32)
    covered = 1 - np.asarray(fx.cutout(ones, (3, 2), key=KEY))
    assert (covered[..., 0] == covered[..., 1]).all()
    seen = {}
    for image in covered[..., 0]:
        seen[image.tobytes()] = seen.get(image.tobytes(), 0) + 1
    expected = {}
    for row in range(6):
        for column in range(5):
            image = np.zeros((6, 5), np.float32)
            image[max(0, row - 1) : row + 2, max(0, column - 1) : column + 1] = 1
            expected[image.tobytes()] = expected.get(image.tobytes(), 0) + 1
    assert set(seen) == set(expected)
    assert stats.chisquare([seen[k] for k in expected], [2000 * v / 30 for v in expected.values()]).pvalue > 1e-3
    assert (np.asarray(fx.cutout(ones, 2, value=7, key=KEY)) == 7).any()
    assert (np.asarray(fx.cutout(ones[:9], 99)) == 0).all()


# ----------------------------------------------------------------------------------------------------- mixtures


def test_shares_are_of_the_beta_distribution():
    for alpha in (0.05, 0.2, 0.5, 1.0, 3.0):
        draws = np.asarray(_beta(KEY, 5000, alpha))
        assert np.isfinite(draws).all() and draws.min() >= 0 and draws.max() <= 1
        if alpha >= 0.2:  # below, numbers pile up at the ends, where float32 has no room for them
            assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
        assert abs(draws.mean() - 0.5) < 0.03
        assert abs(draws.var() - stats.beta(alpha, alpha).var()) < 0.01


def one_hot(labels, classes):
    return np.eye(classes, dtype=np.float32)[labels]


def test_mixup_is_a_convex_mixture_of_two_images_and_of_their_labels():
    images, targets = (np.asarray(a) for a in fx.mixup(IMAGES, np.arange(24), 1.0, classes=24, key=KEY))
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    assert (targets >= 0).all() and ((targets > 0).sum(1) <= 2).all()
    np.testing.assert_allclose(images, np.einsum("ij,jhwc->ihwc", targets, IMAGES), atol=1e-5)  # row i says of what
    others = targets - np.diag(np.diag(targets))
    partners = others.argmax(1)[others.any(1)]
    assert len(set(partners)) == len(partners) > 20  # nobody is the partner of two
    assert stats.kstest(np.diag(targets), stats.uniform.cdf).pvalue > 1e-3

    again, mixed = fx.mixup(IMAGES, LABELS, 1.0, classes=4, key=KEY)
    np.testing.assert_array_equal(again, images)
    np.testing.assert_allclose(mixed, targets @ one_hot(LABELS, 4), atol=1e-6)
    _, from_rows = fx.mixup(IMAGES, one_hot(LABELS, 4), 1.0, key=KEY)
    np.testing.assert_array_equal(from_rows, mixed)
    logits = RANDOM.normal(size=(24, 4)).astype(np.float32)
    expected = -(np.asarray(mixed) * jax.nn.log_softmax(logits)).sum(1).mean()
    np.testing.assert_allclose(fx.logitcrossentropy(logits, mixed), expected, rtol=1e-5)


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels():
    numbered = np.broadcast_to(np.arange(24, dtype=np.int32)[:, None, None, None], (24, 12, 16, 1))
    images, targets = (np.asarray(a) for a in fx.cutmix(numbered, np.arange(24), classes=24, key=KEY))
    assert images.dtype == np.int32
    sizes = []
    for i, (image, target) in enumerate(zip(images[..., 0], targets, strict=True)):
        foreign = image != i
        np.testing.assert_allclose(target, np.bincount(image.ravel(), minlength=24) / image.size, atol=1e-6)
        if foreign.any():
            assert len(np.unique(image[foreign])) == 1
            rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
            assert foreign.sum() == len(rows) * len(columns)
            assert (np.diff(rows) == 1).all() and (np.diff(columns) == 1).all()
        sizes.append(foreign.mean())
    assert len(set(sizes)) > 10
    np.testing.assert_array_equal(fx.cutmix(numbered, LABELS, classes=4, key=KEY)[0], images)


def test_labels_that_cannot_be_mixed():
    for mix, name in ((fx.mixup, "mixup"), (fx.cutmix, "cutmix")):
        with pytest.raises(fx.ArgumentError, match=f"{name}: expected the number of classes for integer labels"):
            mix(IMAGES, LABELS)
        with pytest.raises(fx.ShapeError, match=f"{name}: expected 24 labels for 24 images, got shape \\(23,\\)"):
            mix(IMAGES, LABELS[:23], classes=4)
        with pytest.raises(fx.ShapeError, match=rf"{name}: expected labels of shape \(24, 5\), got \(24, 4\)"):
            mix(IMAGES, one_hot(LABELS, 4), classes=5)
        with pytest.raises(fx.DTypeError, match=f"{name}: expected integer class labels"):
            mix(IMAGES, LABELS.astype(np.float32), classes=4)
        with pytest.raises(fx.DataError, match=f"{name}: label 4 at index"):
            mix(IMAGES, LABELS + 1, classes=4)
        targets = jax.jit(lambda y, mix=mix: mix(IMAGES, y, classes=4, key=KEY)[1])(jnp.asarray(LABELS) + 1)
        assert np.isnan(targets).any(1)[LABELS == 3].all()
        for alpha in (0, -1, math.inf, math.nan, "1"):
            with pytest.raises(fx.ArgumentError, match=f"{name}: expected alpha to be a finite number above 0"):
                mix(IMAGES, LABELS, alpha, classes=4)


# ------------------------------------------------------------------------------------------------------- colors


def gray(image):
    return image @ np.array([0.299, 0.587, 0.114])


def hold(image):
    return np.clip(image, 0, 1)


def test_brightness_contrast_and_saturation_are_their_formulas():
    half = 0.1 + 0.4 * IMAGES  # nothing is clipped, so that the factors can be read back
    f = np.asarray(fx.color_jitter(half, 0.5, key=KEY))[:, 0, 0, 0] / half[:, 0, 0, 0]
    assert f.min() >= 0.5 and f.max() <= 1.5 and np.ptp(f) > 0.5
    bright = np.asarray(fx.color_jitter(IMAGES, 0.5, key=KEY))
    np.testing.assert_allclose(bright, [hold(k * x) for k, x in zip(f, IMAGES, strict=True)], atol=1e-5)

    changed = np.asarray(fx.color_jitter(half, 0.0, 0.5, key=KEY))
    f = (changed[:, 0, 0, 0] - changed[:, 1, 1, 1]) / (half[:, 0, 0, 0] - half[:, 1, 1, 1])
    expected = [hold(k * x + (1 - k) * gray(x).mean()) for k, x in zip(f, IMAGES, strict=True)]
    np.testing.assert_allclose(fx.color_jitter(IMAGES, contrast=0.5, key=KEY), expected, atol=1e-4)

    changed = np.asarray(fx.color_jitter(half, saturation=0.5, key=KEY))
    f = (changed[:, 0, 0, 0] - changed[:, 0, 0, 1]) / (half[:, 0, 0, 0] - half[:, 0, 0, 1])
    expected = [hold(k * x + (1 - k) * gray(x)[..., None]) for k, x in zip(f, IMAGES, strict=True)]
    np.testing.assert_allclose(fx.color_jitter(IMAGES, saturation=0.5, key=KEY), expected, atol=1e-4)

    all_three = np.asarray(fx.color_jitter(IMAGES, 2.0, 2.0, 2.0, 0.5, key=KEY))
    assert all_three.min() >= 0 and all_three.max() <= 1
    np.testing.assert_array_equal(fx.color_jitter(IMAGES), IMAGES)


def test_hue_is_that_of_colorsys():
    red = np.broadcast_to(np.array([1, 0, 0], np.float32), (24, 1, 1, 3))
    turns = np.array(
        [colorsys.rgb_to_hsv(*map(float, x[0, 0]))[0] for x in np.asarray(fx.color_jitter(red, hue=0.5, key=KEY))]
    )
    assert np.ptp(turns) > 0.7
    images = IMAGES.copy()
    images[:, 0, :4] = images[:, 0, :4, :1]  # grays have no hue
    images[:, 1, 0], images[:, 1, 1], images[:, 1, 2] = 0, 1, (0.5, 0.5, 0.2)
    results = np.asarray(fx.color_jitter(images, hue=0.5, key=KEY))
    for image, result, turn in zip(images, results, turns, strict=True):
        for before, after in zip(image.reshape(-1, 3), result.reshape(-1, 3), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*map(float, before))
            np.testing.assert_allclose(after, colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), atol=1e-4)


def test_gray_and_transparency():
    np.testing.assert_allclose(fx.grayscale(IMAGES), np.repeat(gray(IMAGES)[..., None], 3, -1), atol=1e-6)
    alpha = np.concatenate([IMAGES, IMAGES[..., :1]], -1)
    for f in (fx.grayscale, lambda x: fx.grayscale(x, 0.5, key=KEY), lambda x: fx.color_jitter(x, 0.9, 0.9, 0.9, 0.4)):
        np.testing.assert_array_equal(f(alpha)[..., 3], alpha[..., 3])
    some = np.asarray(fx.grayscale(np.broadcast_to(IMAGES[:1], (400, 10, 8, 3)), 0.3, key=KEY))
    assert 80 < (some[:, 0, 0, 0] == some[:, 0, 0, 1]).sum() < 160
    one = IMAGES[..., :1]
    np.testing.assert_array_equal(fx.grayscale(one), one)
    assert fx.color_jitter(one, 0.5, 0.5, key=KEY).shape == one.shape
    with pytest.raises(fx.ShapeError, match="expected 3 channels for saturation and hue"):
        fx.color_jitter(one, 0.5, 0.5, 0.5)
    for f in (fx.grayscale, fx.color_jitter):
        with pytest.raises(fx.ShapeError, match="expected images of 1, 3 or 4 channels"):
            f(IMAGES[..., :2])
    with pytest.raises(fx.DataError, match=r"expected values between 0 and 1, got -0\.49"):
        fx.color_jitter(IMAGES - 0.5, 0.1)


def test_noise_is_normal():
    noise = np.asarray(fx.gaussian_noise(np.full((50, 10, 10, 3), 5, np.float32), 0.3, key=KEY)) - 5
    assert stats.kstest(noise.ravel() / 0.3, stats.norm.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.2
    np.testing.assert_array_equal(fx.gaussian_noise(IMAGES, 0.0), IMAGES)


def test_channels_are_normalized_by_their_own_numbers():
    mean, std = fx.channel_statistics(IMAGES)
    np.testing.assert_allclose(mean, IMAGES.astype(np.float64).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, IMAGES.astype(np.float64).std((0, 1, 2)), rtol=1e-12)
    z = fx.normalize_channels(IMAGES, mean, std)
    assert isinstance(z, np.ndarray) and z.dtype == np.float32
    np.testing.assert_allclose(z.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(z.std((0, 1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda x: fx.normalize_channels(x, mean, std))(IMAGES), z, atol=1e-6)
    np.testing.assert_allclose(fx.normalize_channels(IMAGES, 0.5, 2.0), (IMAGES - 0.5) / 2)
    bf16 = fx.normalize_channels(jnp.asarray(IMAGES, jnp.bfloat16), mean, std)
    assert bf16.dtype == jnp.bfloat16
    huge = np.full((2**12, 4, 4, 1), 4096.0, np.float32)  # float32 sums would lose the fraction
    huge[::2] += 1
    np.testing.assert_allclose(fx.channel_statistics(huge), [[4096.5], [0.5]], rtol=1e-9)
    np.testing.assert_allclose(fx.channel_statistics((IMAGES * 255).astype(np.uint8)).mean, 255 * mean, rtol=0.01)
    with pytest.raises(fx.ShapeError, match="as std, got shape \\(2,\\)"):
        fx.normalize_channels(IMAGES, 0.5, (1.0, 2.0))
    with pytest.raises(fx.ArgumentError, match="expected a positive std"):
        fx.normalize_channels(IMAGES, mean, (1.0, 0.0, 1.0))
    with pytest.raises(fx.DTypeError, match="floating dtype"):
        fx.normalize_channels((IMAGES * 255).astype(np.uint8), mean, std)
    with pytest.raises(fx.ShapeError, match="channel_statistics: expected images"):
        fx.channel_statistics(np.zeros((0, 3)))
    with pytest.raises(fx.DTypeError, match="channel_statistics: expected images of numbers"):
        fx.channel_statistics(np.array([["a"]]))


@pytest.mark.slow
def test_published_statistics(shared_data, monkeypatch):
    monkeypatch.setenv("FLUXION_DATA", str(shared_data))
    mnist = fx.channel_statistics(fx.datasets.mnist().images)
    np.testing.assert_allclose(np.ravel(mnist), [0.1307, 0.3081], atol=5e-5)
    mean, std = fx.channel_statistics(fx.datasets.cifar10().images)
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(std, [0.247, 0.2435, 0.2616], atol=5e-5)


# ------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: fx.random_flip(IMAGES, "horizontl"),
            fx.ArgumentError,
            "expected direction .* Did you mean .horizontal",
        ),
        (lambda: fx.random_flip(IMAGES, p=1.5), fx.ArgumentError, "expected p to be a number between 0 and 1, got 1.5"),
        (lambda: fx.random_flip(IMAGES, p=True), fx.ArgumentError, "expected p to be a number"),
        (lambda: fx.random_crop(IMAGES, -1), fx.ArgumentError, "padding"),
        (lambda: fx.random_crop(IMAGES, 2.5), fx.ArgumentError, "padding"),
        (
            lambda: fx.random_crop(IMAGES, 1, size=13),
            fx.ShapeError,
            r"expected a size of at most \(10, 8\) and the padding",
        ),
        (lambda: fx.random_crop(IMAGES, 8, mode="reflect"), fx.ArgumentError, "expected reflected padding smaller"),
        (lambda: fx.random_crop(IMAGES, mode="wrap"), fx.ArgumentError, 'expected mode to be "constant" or "reflect"'),
        (lambda: fx.random_crop((IMAGES * 255).astype(np.uint8), value=0.5), fx.ArgumentError, "of dtype uint8"),
        (lambda: fx.random_crop(IMAGES, value=math.nan), fx.ArgumentError, "expected value to be a finite number"),
        (lambda: fx.random_shift(IMAGES, 1.5), fx.ArgumentError, "fraction"),
        (lambda: fx.random_shift(IMAGES, (0.1, 0.2, 0.3)), fx.ArgumentError, "expected fraction to be a number or two"),
        (
            lambda: fx.random_rotation(IMAGES, 200),
            fx.ArgumentError,
            "expected degrees to be a number between 0 and 180",
        ),
        (lambda: fx.cutout(IMAGES, 0), fx.ArgumentError, "size"),
        (lambda: fx.color_jitter(IMAGES, hue=0.6), fx.ArgumentError, "expected hue to be a number between 0 and 0.5"),
        (lambda: fx.color_jitter(IMAGES, -1), fx.ArgumentError, "expected brightness"),
        (lambda: fx.grayscale(IMAGES, 2), fx.ArgumentError, "expected p"),
        (lambda: fx.gaussian_noise(IMAGES, -1), fx.ArgumentError, "expected std"),
    ],
)
def test_mistakes_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_float64_stays(x64):
    wide = IMAGES.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("crop", "shift", "mixup"):
            assert ALL[name](wide, KEY).dtype == np.float64
