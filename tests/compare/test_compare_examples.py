"""The data and the table of batches: the same rows, the same order, for every framework."""

import numpy as np
import pytest

from fluxion.compare import examples, worker, workloads
from fluxion.compare import parts as w
from fluxion.data import datasets
from fluxion.data.pixels import read_pixels, write_pixels


def test_iris_is_split_by_species():
    found = examples.load(workloads.find("iris"))
    assert np.bincount(found.y_test).tolist() == [15, 15, 15]
    assert np.bincount(found.y).tolist() == [35, 35, 35]
    x, y = datasets.iris()
    rows = np.concatenate([np.c_[found.x, found.y], np.c_[found.x_test, found.y_test]])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, np.c_[x, y]))  # no row twice, none left out


def test_a_fair_order_goes_once_through_the_rows():
    fair = workloads.find("iris").fair
    order = examples.order(fair, None, 105, seed=0)
    assert order.shape == (100, 105)
    assert all(np.array_equal(np.sort(epoch), np.arange(105)) for epoch in order)
    assert not np.array_equal(order[0], order[1])
    assert np.array_equal(order, examples.order(fair, None, 105, seed=0))
    assert not np.array_equal(order, examples.order(fair, None, 105, seed=1))
    short = examples.order(w.Workload("", "", (), (1,), batch=4, epochs=2, examples=10), None, 10, 0)
    assert short.shape == (2, 8)  # the last two rows fill no batch


@pytest.mark.parametrize(("way", "same"), [("reshuffled", False), ("shuffled once", True), ("drawn once", True)])
def test_orders_of_posts(way, same):
    workload = w.Workload("", "", (), (1,), batch=4, epochs=3, examples=10)
    variant = workloads.Variant("x", workload, (), "", batches=way, partial=True)
    order = examples.order(workload, variant, 10, 0)
    assert order.shape == (3, 10)
    assert np.array_equal(order[0], order[1]) == same
    assert (len(set(order[0].tolist())) < 10) == (way == "drawn once")
    assert [len(rows) for rows in worker.steps_of(order[:1], 4)] == [4, 4, 2]


def test_in_the_order_of_the_file():
    variant = workloads.find("cifar-cnn").variants[0]
    order = examples.order(variant.workload, variant, 49_000, 0)
    assert (order == np.arange(49_000)).all()


def test_absent_sets_are_replaced_and_marked(monkeypatch, tmp_path):
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path))
    monkeypatch.setenv("FLUXION_CACHE", "off")
    for name in ("mnist-mlp", "char-lstm"):
        comparison = workloads.find(name)
        found = examples.load(comparison)
        assert found.kind == "synthetic"
        assert found.x.shape == (comparison.fair.examples, *comparison.fair.shape)
        assert found.x_test.shape == (comparison.fair.evaluation, *comparison.fair.shape)
        assert set(np.unique(found.y)) == set(range(comparison.fair.classes))
        again = examples.load(comparison)
        assert examples.hashes({"x": again.x}) == examples.hashes({"x": found.x})


def test_what_a_process_reads(tmp_path):
    comparison = workloads.find("iris")
    found = examples.prepare(tmp_path, comparison, comparison.fair, None, seeds=2, small=False)
    arrays = worker.read(str(found["file"]), "0 to 1")
    assert found["hashes"] == examples.hashes(arrays)
    assert arrays["x"].dtype == np.float32
    weights = comparison.fair.weights(1)
    assert all(np.array_equal(array, weights[name]) for name, array in worker.weights_of(arrays, 1).items())
    assert len(worker.weights_of(arrays, 1)) == len(weights)


def test_pixels(tmp_path):
    x = np.array([[0, 255, 51]], np.uint8)
    np.savez(tmp_path / "x.npz", x=x)
    read = lambda pixels: worker.read(str(tmp_path / "x.npz"), pixels)["x"]
    assert read("0 to 1").tolist() == np.float32([[0, 1, 0.2]]).tolist()
    assert read("0 to 255").tolist() == [[0, 255, 51]]
    np.testing.assert_allclose(read("standardized"), [[-0.4242, 2.8215, 0.2249]], atol=1e-4)  # torchvision's values
    assert all(read(pixels).dtype == np.float32 for pixels in worker.PIXELS)


def test_a_csv_file_has_the_pixels_that_a_process_reads(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    write_pixels(tmp_path / "x.csv", images, np.arange(5, dtype=np.uint8))
    pixels, _ = read_pixels(tmp_path / "x.csv")
    np.savez(tmp_path / "x.npz", x=images[..., None])
    assert np.array_equal(worker.read(str(tmp_path / "x.npz"), "0 to 1")["x"], pixels)
