import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.io import images
from jaxdenoise.microscope import synthetic
from jaxdenoise.network import pretrained, stacks
from jaxdenoise.network.stacks import table
from jaxdenoise.system.errors import ConfigError
from jaxdenoise.targets import patches
from jaxdenoise.training.problem import prepare
from jaxdenoise.workflows import DenoiseRequest, SweepRequest, applying
from jaxdenoise.workflows.partition import in_rows, parts_by_model, sequence_axis
from jaxdenoise.workflows.stacks import training_stack

KEY = jax.random.key(0)


def seeing(config, reach):
    return dataclasses.replace(
        config, network=dataclasses.replace(config.network, neighbours=reach)
    )


@pytest.fixture(scope="module")
def sequences():
    """Two sequences of five frames, each of one scene with noise of its own."""
    return np.stack(
        [
            np.asarray(synthetic.static_scene(jax.random.key(seed), frames=5, shape=(40, 48)).noisy)
            for seed in (1, 2)
        ]
    )


# --- which frames
# --------------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 3))
def test_the_nearest_of_the_own_sequence_stand_beside(sequence, count, reach):
    if reach and sequence < 2 * reach + 1:
        with pytest.raises(ValueError, match="in a row"):
            table(sequence * count, sequence, reach)
        return
    found = table(sequence * count, sequence, reach)
    assert found.shape == (sequence * count, 2 * reach)
    for number, beside in enumerate(found):
        own = range(number // sequence * sequence, (number // sequence + 1) * sequence)
        nearest = sorted((abs(other - number), other) for other in own if other != number)
        assert sorted(abs(beside - number)) == [distance for distance, _ in nearest[: 2 * reach]]
        assert set(beside) <= set(own) - {number}
        assert list(beside) == sorted(set(beside))


def test_windows_hold_the_frame_and_those_beside():
    beside = table(10, 5, 1)
    windows, places = stacks.windows(beside, [0, 3, 9])
    assert windows.tolist() == [[0, 1, 2], [2, 3, 4], [7, 8, 9]]
    assert places.tolist() == [0, 1, 2]


@pytest.mark.parametrize("make", [patches.training_batch, patches.validation_batch])
def test_patches_beside_are_of_the_same_place_and_turned_alike(make):
    frames = np.random.default_rng(0).random((4, 20, 24)).astype(np.float32)
    frames = jnp.asarray(
        frames[0] + 10 * np.arange(4, dtype=np.float32)[:, None, None]
    )  # the neighbours differ by a constant: the patch tells its place
    options = patches.PatchOptions(patch_size=12, box=4, radius=1)
    batch = make(
        KEY,
        frames,
        patches.held_out_masks(KEY, frames.shape, box=4),
        patches.Beside(jnp.asarray(table(4, 4, 1)), 1000 + frames),
        options=options,
        batch_size=16,
    )
    assert batch.beside.shape == (16, 3, 12, 12)
    for noisy, beside in zip(batch.noisy, batch.beside, strict=True):
        number = int(noisy[0, 0] // 10)
        expected = table(4, 4, 1)[number]
        for other, patch in zip(expected, beside[:2], strict=True):
            np.testing.assert_allclose(patch - noisy, 10 * (other - number), atol=1e-4)
        np.testing.assert_allclose(beside[2] - noisy, 1000, atol=1e-3)  # its guide


# --- the network
# --------------------------------------------------------------------------------------------------


def test_a_network_that_ignores_its_neighbours_is_one_without(make_denoiser, sequences):
    ignoring = make_denoiser(neighbours=2, stride=1, depth=2)
    kernel = np.array(ignoring.best["down_convs_0"]["conv1"]["kernel"])
    kernel[:, :, 1:] = 0

    def with_kernel(kernel):
        first = ignoring.best["down_convs_0"]["conv1"] | {"kernel": kernel}
        return ignoring.best | {"down_convs_0": ignoring.best["down_convs_0"] | {"conv1": first}}

    alone = dataclasses.replace(
        make_denoiser(stride=1, depth=2), best=with_kernel(kernel[:, :, :1])
    )
    ignoring = dataclasses.replace(ignoring, best=with_kernel(kernel))
    for a, b in zip(jd.denoise(ignoring, sequences), jd.denoise(alone, sequences), strict=True):
        assert a.shape == sequences.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    "network", [{"stride": 1}, pytest.param({"stride": 2}, marks=pytest.mark.slow)]
)
def test_sequences_and_tiles_change_nothing(make_denoiser, sequences, network):
    denoiser = dataclasses.replace(make_denoiser(neighbours=1, **network))
    denoiser = dataclasses.replace(
        denoiser, config=dataclasses.replace(denoiser.config, symmetries=8)
    )
    together = jd.denoise(denoiser, sequences).denoised
    tile = 2 * 120 if network["stride"] == 2 else 120
    np.testing.assert_allclose(
        jd.denoise(denoiser, sequences, tile_size=tile).denoised, together, rtol=1e-5, atol=1e-3
    )
    for own, result in zip(sequences, together, strict=True):
        np.testing.assert_allclose(jd.denoise(denoiser, own).denoised, result, rtol=1e-5, atol=1e-3)
    other = sequences.copy()
    other[0, 3] += 50  # frames 2 to 4 of the first sequence see it
    changed = np.abs(jd.denoise(denoiser, other).denoised - together).max(axis=(2, 3)) > 1e-2
    assert changed.tolist() == [[False, False, True, True, True], [False] * 5]


def test_a_single_image_is_refused(make_denoiser, sequences):
    denoiser = make_denoiser(neighbours=1)
    with pytest.raises(ValueError, match="at least 3 in a row, not 1"):
        jd.denoise(denoiser, sequences[0, 0])
    with pytest.raises(ValueError, match="at least 3 in a row, not 2"):
        jd.denoise(denoiser, sequences[:, :2])
    from jaxdenoise.prediction.tiles import denoise_image

    with pytest.raises(ValueError, match="give `denoise` a stack"):
        denoise_image(denoiser, sequences[0, 0])


def test_whole_frames_are_not_held_out(tiny_config, sequences):
    config = seeing(tiny_config, 1)
    problem = prepare(KEY, sequences, psf=np.ones((1, 1)), config=config).problem
    assert problem.held_out is not None
    assert len(problem.frames) == len(problem.beside.numbers) == 10
    with pytest.raises(ConfigError, match="neighbouring frames"):
        dataclasses.replace(config, validation="frames")


def pretrained_result(stack, reach):
    """Of the shipped network, as a training with so many neighbours starts from it."""
    config = seeing(TrainConfig.best(network=UNetConfig(filters=32, stride=1), symmetries=1), reach)
    plan = prepare(KEY, stack, psf=jd.gaussian_psf(pretrained.PSF_SIGMA), config=config)
    problem, config = plan.problem, plan.settings
    params = pretrained.fitted(problem.frames, problem.scale, config)
    return jd.denoise(
        jd.Denoiser(params, params, params, problem.psf, problem.scale, {}, config), stack
    ).denoised


@pytest.mark.slow
def test_still_frames_start_as_the_shipped_network(sequences):
    """The mean of equal frames is each of them: neighbours change nothing."""
    still = np.repeat(sequences[:, :1], 3, axis=1)
    np.testing.assert_allclose(
        pretrained_result(still, 1), pretrained_result(still, 0), rtol=1e-3, atol=0.02 * still.std()
    )


@pytest.mark.slow
def test_neighbours_lower_the_error():
    """Of a still scene the network sees three frames, each with its own noise."""
    scene = synthetic.static_scene(jax.random.key(7), frames=5, shape=(64, 64))
    errors = [
        np.mean((pretrained_result(scene.noisy, reach) - scene.clean) ** 2) for reach in (0, 1)
    ]
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.slow
def test_a_psf_is_chosen_with_neighbours(tiny_config, sequences):
    config = seeing(dataclasses.replace(tiny_config, epochs=1, batch_size=1), 1)
    swept = jd.sweep(
        KEY, sequences, psfs=[jd.gaussian_psf(sigma) for sigma in (0.7, 1.5)], config=config
    )
    assert all(np.isfinite(model.score) for model in swept.models)
    assert jd.denoise(swept.denoiser, sequences).denoised.shape == sequences.shape


# --- files
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def volume(tmp_path, sequences):
    """A file (T 4, Z 3, Y, X), and its pixels: each frame is 1000 grey levels above the last."""
    data = np.clip(
        np.random.default_rng(0).poisson(sequences[0, 0] / 8, (4, 3, 40, 48)) * 8, 0, 65535
    ).astype(np.uint16)
    data += (1000 * np.arange(12)).astype(np.uint16).reshape(4, 3, 1, 1)
    path = tmp_path / "v.tif"
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "TZYX"})
    return path, data


def test_rows_follow_the_axis(volume):
    path, data = volume
    file = images.open_image(path)
    for axis, numbers in (("Z", range(12)), ("T", [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11])):
        ordered = in_rows(path, file, axis)
        assert ordered.frames.row == data.shape["TZ".index(axis)]
        assert list(ordered.frames.numbers) == list(numbers)
    with pytest.raises(images.ImageError, match=r"say which with along=\.\.\."):
        sequence_axis(path, file.info)
    with pytest.raises(images.ImageError, match="neighbours along S need more than one frame"):
        sequence_axis(path, file.info, "S")


def test_files_with_neighbours_give_what_python_gives(volume, training_of, tmp_path, monkeypatch):
    path, data = volume
    # Of large files the results are not kept: the report reads what was written.
    monkeypatch.setattr(applying, "KEPT", 0)
    options = {"inputs": [path], "along": "T", "dtype": "float32"}
    run = tmp_path / "model"
    request = DenoiseRequest(
        output=tmp_path / "out", training=training_of(neighbours=1), save_model=run, **options
    )
    page = workflows.denoise(request).reports[""].read_text()
    assert "may be smoothed" in page
    assert "Not applicable: there is no movie." in page  # four frames are too few
    denoiser = jd.load(run)
    assert denoiser.config.network.neighbours == 1
    expected = np.moveaxis(jd.denoise(denoiser, np.moveaxis(data, 0, 1)).denoised, 0, 1)
    written = tifffile.imread(tmp_path / "out" / "v_denoised.tif")
    np.testing.assert_allclose(written, expected, rtol=1e-5)
    again = DenoiseRequest(output=tmp_path / "again", model=run, report=False, **options)
    workflows.denoise(again)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "again" / "v_denoised.tif"), written)
    with pytest.raises(images.ImageError, match="say which with along="):
        workflows.denoise(dataclasses.replace(again, along=None, overwrite=True))


@pytest.mark.slow
def test_a_sweep_is_judged_in_the_order_of_the_file(volume, training_of, tmp_path):
    """Along T the frames are trained on in another order than the reference has them."""
    path, data = volume
    request = SweepRequest(
        inputs=[path],
        output=tmp_path / "out",
        training=training_of(neighbours=1),
        psfs=[1],
        along="T",
        reference=path,
        report=False,
    )
    (row,) = workflows.sweep(request).table["candidates"]
    denoised = jd.denoise(jd.load(row["run"]), np.moveaxis(data, 0, 1)).denoised
    data_range = np.ptp(data.astype(float))
    expected = np.mean(
        [
            jd.psnr(data[t, z], denoised[z, t], data_range=data_range)
            for t in range(4)
            for z in range(3)
        ]
    )
    assert row["psnr"] == pytest.approx(expected, abs=0.3)


def test_channels_have_rows_of_their_own(volume):
    path, data = volume
    file = images.open_image(path, axes="CZYX")
    options = {"channels": "separate", "reach": 1, "along": None}
    found = parts_by_model([path], [file], **options)
    assert list(found) == [f"channel-{channel}" for channel in range(4)]
    for (part,), pixels in zip(found.values(), data, strict=True):
        assert part.frames.row == 3
        np.testing.assert_array_equal(np.asarray(part.file.frames), pixels)


@pytest.mark.slow
def test_separate_channels_in_rows(volume, training_of, tmp_path):
    path, data = tmp_path / "c.tif", volume[1].swapaxes(0, 1)[:, :2].copy()
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "ZCYX"})
    request = DenoiseRequest(
        inputs=[path],
        output=tmp_path / "out",
        training=training_of(neighbours=1),
        channels="separate",
        report=False,
    )
    workflows.denoise(request)
    assert jd.read(tmp_path / "out" / "c_denoised.tif").info.shape == (3, 2, 40, 48)


@given(st.integers(0, 2**32 - 1))
def test_random_places_of_large_files_are_rows(seed):
    class Rows(np.ndarray):
        row = 7

    source = np.arange(14 * 30 * 20, dtype=np.float32).reshape(14, 30, 20).view(Rows)
    stack, _ = training_stack([source], seed=seed, reach=1, pixels=11 * 30 * 20)
    assert stack.shape == (2, 5, 30, 20)
    for squares in stack:
        first = int(squares[0, 0, 0]) // 600
        assert first // 7 == (first + 4) // 7
        np.testing.assert_array_equal(squares, source[first : first + 5])
    assert training_stack([source], seed=seed, reach=1)[0].shape == (2, 7, 30, 20)
    other = source[:6].view(Rows)
    other.row = 6
    with pytest.raises(ValueError, match="6, 7 neighbouring frames in a row"):
        training_stack([source, other], seed=seed, reach=1)
