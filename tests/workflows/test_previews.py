"""Previews: which part is tried, what is written, and what all would take."""

import numpy as np
import pytest
import tifffile

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.io import images
from jaxdenoise.network.settings import shape_of
from jaxdenoise.system.errors import ImageError, RequestError
from jaxdenoise.workflows import estimates


@pytest.fixture
def stack(tmp_path):
    """A stack of two channels with something to see at one place alone."""
    rng = np.random.default_rng(0)
    clean = np.full((7, 2, 300, 260), 20.0)
    clean[..., 190:260, 40:100] += 200 * rng.random((70, 60))
    path = tmp_path / "stack.tif"
    noisy = rng.poisson(clean).astype(np.uint16)
    tifffile.imwrite(path, noisy, imagej=True, metadata={"axes": "ZCYX"})
    return path


def test_a_preview_shows_the_most_telling_part(stack, shared, tmp_path, recorder):
    hears = recorder()
    request = workflows.PreviewRequest(
        inputs=[stack], output=tmp_path / "out", model=shared.run, dtype="float32"
    )
    result = workflows.preview(request, hears)
    y, x, size = result.crop
    assert y <= 190
    assert y + size >= 260
    assert x <= 40
    assert x + size >= 100
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "stack_preview.png",
        "stack_preview_deconvolved.tif",
        "stack_preview_denoised.tif",
    ]
    written = jd.read(tmp_path / "out" / "stack_preview_denoised.tif")
    assert written.info.axes == "ZCYX"
    assert written.info.shape == (5, 2, size, size)
    said = hears.said[-1]
    assert said.startswith("estimate: about ")
    assert "GB of memory" in said
    assert result.shortened is None
    with pytest.raises((ImageError, RequestError), match="the file exists"):
        workflows.preview(request)


def test_a_training_is_shortened(stack, training_of, tmp_path, recorder, monkeypatch):
    monkeypatch.setattr(estimates, "network_rate", lambda *_: 1e5)  # a slow machine
    hears = recorder()
    request = workflows.PreviewRequest(
        inputs=[stack],
        output=tmp_path / "out",
        training=training_of(members=2, epochs=40),
        channels="together",
        crop=(200, 50, 32),
    )
    result = workflows.preview(request, hears)
    assert result.shortened == 1
    assert [(config.epochs, total) for config, _, total in hears.begun] == [(1, None)]
    assert result.to_dict()["crop"] == [200, 50, 32]
    assert any("after 1 epochs" in line for line in hears.said)


def test_a_crop_must_lie_in_the_image(stack, shared, tmp_path):
    request = workflows.PreviewRequest(
        inputs=[stack], output=tmp_path / "out", model=shared.run, crop=(200, 0, 128)
    )
    with pytest.raises(ImageError, match="reaches beyond the image of 300 x 260"):
        workflows.preview(request)
    with pytest.raises(RequestError, match="crop=8: expected a whole number from 16"):
        workflows.PreviewRequest(inputs=[stack], output="out", crop=(0, 0, 8))


def test_the_work_of_a_network_is_counted():
    """Against XLA's own count of the same network."""
    import jax

    from jaxdenoise.network import unet

    config = jd.UNetConfig(depth=3, filters=8, stride=1)
    shape = shape_of(config)
    params = unet.init(jax.random.key(0), shape)
    frames = np.zeros((1, 128, 128), np.float32)
    options = {"precision": "float32", "platform": "cpu"}
    run = jax.jit(lambda params, images: unet.apply(params, images, shape, **options))
    counted = run.lower(params, frames).cost_analysis()["flops"] / frames.size
    assert estimates.work_of(config) == pytest.approx(counted, rel=0.2)


def test_an_estimate_grows_with_the_work(monkeypatch):
    monkeypatch.setattr(estimates, "network_rate", lambda *_: 1e11)

    def of(shapes, axis=None, **options):
        request = workflows.DenoiseRequest(inputs=["a.tif"], output="out", **options)
        row = 1 if axis is None else shapes[0][0]
        return estimates.estimate(request, [estimates.Seen(shape, axis, row) for shape in shapes])

    one, many = of([(1, 128, 128)], instant=True), of([(1, 128, 128)] * 10, instant=True)
    assert many.prediction == pytest.approx(10 * one.prediction)
    assert one.training == 0
    fast = of([(1, 128, 128)])
    best = of([(1, 128, 128)], training=workflows.Training(preset="best"))
    assert best.training > fast.training > 0
    each = of([(1, 128, 128)] * 3, train_on="each")
    assert each.training == pytest.approx(3 * fast.training)
    assert of([(99, 512, 512)]).memory > fast.memory
    assert "training" in fast.text()
    # The network for movies has a quarter of the work, but guides; both have a choice.
    frames = of([(99, 256, 256)], instant=True)
    movie, volume = (of([(99, 256, 256)], axis, instant=True) for axis in "TZ")
    assert volume.prediction > frames.prediction > movie.prediction > frames.prediction / 4
    apart = {"instant": True, "training": workflows.Training(neighbours=0)}
    assert of([(99, 256, 256)], "T", **apart).prediction == frames.prediction
    training, own = (of([(99, 256, 256)], axis).training for axis in ("T", None))
    assert own > training > own / 8


def test_the_rate_of_a_network_is_measured():
    shape = shape_of(jd.UNetConfig(depth=2, filters=8, stride=1))
    rate = estimates.network_rate(shape, "float32", 96)
    assert 1e8 < rate < 1e15
    assert estimates.network_rate(shape, "float32", 96) == rate


def test_movies_and_volumes_are_known_before_the_work(tmp_path):
    for axes, expected in (("TYX", "T"), ("ZYX", "Z"), ("CYX", None)):
        path = tmp_path / f"{axes}.tif"
        metadata = {"axes": axes}
        tifffile.imwrite(path, np.zeros((7, 9, 8), np.uint16), imagej=True, metadata=metadata)
        found = estimates.seen_of(images.open_image(path))
        assert found == ((7, 9, 8), expected, 7 if expected else 1)
