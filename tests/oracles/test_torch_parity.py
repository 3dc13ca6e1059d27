"""The library against the PyTorch twin of the published code.

Outputs, losses, every gradient, Adam and the plateau schedule are compared.
"""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.imaging.symmetry import SYMMETRIES, apply_symmetry
from jaxdenoise.microscope.psf import convolve, gaussian_psf, normalized_psf
from jaxdenoise.network import published, unet
from jaxdenoise.network.denoiser import Scale, network_output
from jaxdenoise.network.settings import NetworkShape, settle
from jaxdenoise.targets import blindspot, patches
from jaxdenoise.training.fit import start
from jaxdenoise.training.problem import Problem
from jaxdenoise.training.step import TrainState, batch_losses, plateau_factor, train_step

torch = pytest.importorskip("torch")
from common import pytorch_rivals  # noqa: E402  (it imports torch)

# The order of sums is fixed, and the tests leave the other cores alone.
torch.set_num_threads(1)

TOLERANCE = 1e-4  # of the norm of an array, in float32
BACKGROUND = 100.0


@pytest.fixture(autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):  # GPUs round the factors of a product by default
        yield


class Results(NamedTuple):
    deconvolved: np.ndarray
    denoised: np.ndarray
    terms: tuple
    gradients: dict


def relative(ours, theirs):
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.isfinite(ours).all()
    assert np.isfinite(theirs).all()
    return np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-30)


def differences(ours, theirs):
    """Relative difference of each pair of arrays of two pytrees, by name."""
    compared = jax.tree.map(relative, ours, theirs)
    return {
        jax.tree_util.keystr(path): value
        for path, value in jax.tree_util.tree_leaves_with_path(compared)
    }


def worst(ours, theirs):
    return max((value, name) for name, value in differences(ours, theirs).items())


def camera_frames(rng, shape, *, brightness):
    """Smooth structures with shot noise, read noise and an offset, in whole grey levels."""
    y, x = np.mgrid[: shape[1], : shape[2]]
    waves = np.stack(
        [np.sin(x / a + p) * np.cos(y / b - p) for a, b, p in rng.uniform(2, 7, (shape[0], 3))]
    )
    photons = rng.poisson(brightness / 2 * (1.05 + waves))
    return np.round(2 * photons + rng.normal(BACKGROUND, 8, shape)).astype(np.float32)


def example(config, *, batch_size, brightness, seed=0):
    """Weights, a batch with blind spots drawn by NumPy, and the scale of its frames."""
    rng = np.random.default_rng(seed)
    noisy = camera_frames(
        rng, (batch_size, config.patch_size, config.patch_size), brightness=brightness
    ) - np.float32(BACKGROUND)
    scored = rng.random(noisy.shape) < config.density
    visible = np.where(scored, np.roll(noisy, (1, -2), axis=(1, 2)), noisy)
    symmetry = rng.permutation(SYMMETRIES)[np.arange(batch_size) % SYMMETRIES].astype(np.int32)
    scale = Scale(*(np.float32(v) for v in (BACKGROUND, noisy.mean(), noisy.std())))
    batch = patches.Batch(noisy, visible, scored, symmetry)
    return (
        half_negative(random_params(config.network, seed=seed), batch, scale, config),
        batch,
        scale,
    )


def paper(**changes):
    """The published settings."""
    return settle(TrainConfig.paper(**changes))


def random_params(network, *, seed=0):
    """Weights as large as the initial ones, with biases other than zero, which cannot get lost."""
    shapes = jax.eval_shape(lambda: unet.init(jax.random.key(0), network))
    rng = np.random.default_rng(seed)

    def draw(leaf):
        fan_in_and_out = np.prod(leaf.shape[:2]) * sum(leaf.shape[2:])
        std = 0.1 if len(leaf.shape) == 1 else np.sqrt(2 / fan_in_and_out)
        return rng.normal(0, std, leaf.shape).astype(leaf.dtype)

    return jax.tree.map(draw, shapes)


def half_negative(params, batch, scale, config):
    """The weights, with a last bias for which half of the deconvolved pixels are below zero."""
    with torch.no_grad():
        z, _, _ = twin_losses(
            twin_network(params, config.network), batch, scale, np.ones((1, 1), np.float32), config
        )
    last = params["conv_final"]
    shift = np.float32(np.median(z) / (config.output_scale * scale.std))
    return {**params, "conv_final": {**last, "bias": last["bias"] - shift}}


def twin_network(params, network):
    """The PyTorch network with these weights."""
    net = pytorch_rivals.UNet(depth=network.depth, filters=network.filters, merge=network.skip)
    state_dict = published.state_dict_from_params(params, network)
    net.load_state_dict(
        {name: torch.tensor(value) for name, value in state_dict.items()}, strict=True
    )
    return net


def turned(psf, symmetry):
    """What `symmetry.apply_symmetry` is documented to do, in NumPy."""
    psf = psf[::-1] if symmetry & 1 else psf
    psf = psf[:, ::-1] if symmetry & 2 else psf
    return (psf.T if symmetry & 4 else psf).copy()


def twin_losses(net, batch, scale, psf, config):
    """Deconvolved and denoised images, and four lists of terms a patch, of the PyTorch network."""
    dtype = next(net.parameters()).dtype
    noisy, visible, scored = (torch.from_numpy(np.array(array)) for array in batch[:3])
    kernels = [
        torch.from_numpy(turned(np.asarray(psf), symmetry)).to(dtype)
        for symmetry in np.asarray(batch.symmetry)
    ]
    mean, std = float(scale.mean), float(scale.std)
    z = pytorch_rivals.deconvolved(
        net, visible.to(dtype), mean=mean, std=std, output_scale=config.output_scale
    )
    s = torch.stack(
        [pytorch_rivals.blurred(image, kernel) for image, kernel in zip(z, kernels, strict=True)]
    )
    weights = {"positivity": config.positivity, "variation": config.variation}
    terms = [
        pytorch_rivals.loss_terms(*images, std=std, **weights)
        for images in zip(noisy.to(dtype), scored, z, s, strict=True)
    ]
    return z, s, [torch.stack(values) for values in zip(*terms, strict=True)]


def theirs(params, batch, scale, psf, config, *, double=False):
    net = twin_network(params, config.network)
    net = net.double() if double else net
    z, s, terms = twin_losses(net, batch, scale, psf, config)
    terms[0].mean().backward()
    arrays = [array.detach().numpy() for array in (z, s, *terms)]
    return Results(
        arrays[0],
        arrays[1],
        tuple(arrays[2:]),
        {name: p.grad.numpy() for name, p in net.named_parameters()},
    )


@partial(jax.jit, static_argnames="config")
def ours(params, batch, scale, psf, config):
    def loss(params):
        terms = batch_losses(params, batch, scale, psf, config)
        return terms.total.mean(), tuple(terms)

    gradients, terms = jax.grad(loss, has_aux=True)(params)
    z = network_output(params, batch.visible, scale, config)
    s = jax.vmap(convolve)(z, jax.vmap(apply_symmetry, (None, 0))(psf, batch.symmetry))
    return Results(z, s, terms, gradients)


def compare(params, batch, scale, psf, config, *, gradient_tolerance=TOLERANCE):
    """Assert that both agree in float32."""
    mine, twin = ours(params, batch, scale, psf, config), theirs(params, batch, scale, psf, config)
    gradients, _ = published.params_from_state_dict(twin.gradients)
    assert jax.tree.structure(gradients) == jax.tree.structure(mine.gradients)
    assert all(np.min(term) > 0 for term in mine.terms), "the example must feel every term"
    assert np.min(mine.deconvolved) < 0
    assert worst(mine[:2], twin[:2])[0] < TOLERANCE
    assert worst(mine.terms, twin.terms)[0] < TOLERANCE
    assert worst(mine.gradients, gradients)[0] < gradient_tolerance


def in_double(*trees):
    """The same pytrees with float64 instead of float32."""
    return jax.tree.map(
        lambda a: np.asarray(a, np.float64 if np.result_type(a).kind == "f" else None), trees
    )


def compare_in_double(params, batch, scale, psf, config):
    """Assert that both agree to float64's rounding, which no difference of formulas survives."""
    twin = theirs(params, batch, scale, psf, config, double=True)
    with jax.enable_x64(True):
        mine = ours(*in_double(params, batch, scale, psf), config)
    assert mine.deconvolved.dtype == np.float64
    assert worst(mine[:2], twin[:2])[0] < 1e-9
    assert worst(mine.terms, twin.terms)[0] < 1e-9
    for name, gradient in twin.gradients.items():
        assert relative(gradient_of(mine.gradients, name), gradient) < 1e-9, name


def gradient_of(tree, name):
    """One array under its published name and axes, without the library's own mapping."""
    part, *rest = name.split(".")
    node = tree[part if part == "conv_final" else f"{part}_{rest.pop(0)}"]
    if rest[0] == "upconv":
        return (
            np.transpose(node["upconv_kernel"], (2, 3, 0, 1))
            if rest[1] == "weight"
            else node["upconv_bias"]
        )
    node = node[rest[0]] if len(rest) == 2 else node
    return np.transpose(node["kernel"], (3, 2, 0, 1)) if rest[-1] == "weight" else node["bias"]


def skewed_psf(side):
    """A random PSF without any symmetry."""
    return normalized_psf(np.random.default_rng(5).gamma(0.5, size=(side, side)))


CASES = {
    "published": ({"depth": 3, "filters": 8}, gaussian_psf(1.0), 1.0, 0.0, 32, 500),
    "no PSF": ({"depth": 2, "filters": 6}, gaussian_psf(0.0), 1.0, 0.3, 24, 2000),
    "concatenated": (
        {"depth": 2, "filters": 5, "skip": "concat"},
        skewed_psf(7),
        0.0,
        0.0,
        20,
        3000,
    ),
    "deep": ({"depth": 4, "filters": 4}, skewed_psf(9), 1.0, 0.0, 32, 800),
    "deep, concatenated": (
        {"depth": 4, "filters": 3, "skip": "concat"},
        gaussian_psf(1.5),
        0.0,
        0.3,
        32,
        600,
    ),
    "PSF as large as the patch": ({"depth": 1, "filters": 4}, skewed_psf(15), 1.0, 0.3, 16, 1500),
}


@pytest.mark.parametrize(
    ("network", "psf", "positivity", "variation", "side", "brightness"),
    [
        pytest.param(*case, id=name, marks=[] if name == "published" else pytest.mark.slow)
        for name, case in CASES.items()
    ],
)
def test_outputs_losses_and_gradients_agree(network, psf, positivity, variation, side, brightness):
    config = paper(
        network=UNetConfig(**network), positivity=positivity, variation=variation, patch_size=side
    )
    compare(*example(config, batch_size=3, brightness=brightness), psf, config)


@pytest.mark.slow
def test_the_published_network_agrees_at_its_full_size():
    """Float32 gets room in the gradients here, and float64 shows that nothing else differs.

    Of these millions of ReLUs one may lie within rounding of its kink, and then the two libraries
    take different sides of it.
    """
    config = paper()
    assert (config.network, config.patch_size) == (
        NetworkShape(depth=3, filters=64, skip="add", stride=1),
        100,
    )
    case = *example(config, batch_size=1, brightness=2000), gaussian_psf(1.0, size=81), config
    compare(*case, gradient_tolerance=10 * TOLERANCE)
    compare_in_double(*case)


@pytest.fixture(scope="module")
def turned_patches():
    """A case with every term, and all symmetries of the patches."""
    config = paper(
        network=UNetConfig(depth=3, filters=3, skip="concat"),
        variation=0.3,
        density=0.1,
        patch_size=24,
    )
    params, batch, scale = example(config, batch_size=SYMMETRIES, brightness=1500)
    assert set(batch.symmetry) == set(range(SYMMETRIES))
    return params, batch, scale, skewed_psf(7), config


def test_they_agree_to_double_precision(turned_patches):
    compare_in_double(*turned_patches)


def test_the_gradient_is_the_slope_of_the_loss(turned_patches):
    *arrays, config = turned_patches
    params, *rest = in_double(*arrays)
    rng, h = np.random.default_rng(1), 1e-7

    def loss(params):
        return float(np.mean(ours(params, *rest, config).terms[0]))

    with jax.enable_x64(True):
        gradient = ours(params, *rest, config).gradients
        for _ in range(3):
            direction = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
            ahead, behind = (
                jax.tree.map(lambda p, d, step=step: p + step * d, params, direction)
                for step in (h, -h)
            )
            slope = sum(
                jax.tree.leaves(
                    jax.tree.map(lambda g, d: float(np.sum(g * d)), gradient, direction)
                )
            )
            assert (loss(ahead) - loss(behind)) / (2 * h) == pytest.approx(slope, rel=1e-5)


def test_the_initial_weights_are_as_large_as_pytorchs():
    config = settle(TrainConfig(network=UNetConfig(depth=2, filters=32)))
    state_dict = published.state_dict_from_params(
        start(jax.random.key(0), config).best, config.network
    )
    for name, tensor in pytorch_rivals.UNet(depth=2, filters=32).state_dict().items():
        ours, theirs = state_dict[name], tensor.numpy()
        if ours.ndim == 1:
            assert not ours.any(), name
            assert not theirs.any(), name
        else:
            assert ours.std() == pytest.approx(theirs.std(), rel=6 / np.sqrt(ours.size)), name
            assert ours.mean() == pytest.approx(0, abs=5 * ours.std() / np.sqrt(ours.size)), name


def test_three_train_steps_are_three_of_adam():
    config = paper(
        network=UNetConfig(depth=2, filters=6), patch_size=24, batch_size=4, positivity=0.7
    )
    rng = np.random.default_rng(3)
    frames = camera_frames(rng, (3, 40, 44), brightness=1000) - np.float32(BACKGROUND)
    held_out = rng.random(frames.shape) < config.density
    scale = Scale(*(np.float32(v) for v in (BACKGROUND, frames.mean(), frames.std())))
    psf = skewed_psf(5)
    problem = Problem(frames, held_out, frames, scale, psf)
    key = jax.random.key(11)
    everything = patches.Batch(frames, frames, held_out, np.zeros(len(frames), np.int32))
    first = half_negative(random_params(config.network), everything, scale, config)
    state = TrainState(np.int32(0), first, optax.scale_by_adam().init(first), first)
    net = twin_network(first, config.network)
    adam = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
    step = jax.jit(train_step, static_argnames="config")
    options = patches.PatchOptions(
        patch_size=config.patch_size,
        box=blindspot.box_size(config.density),
        radius=config.radius,
    )
    draw = jax.jit(partial(patches.training_batch, options=options, batch_size=config.batch_size))
    for number in range(3):
        batch = draw(jax.random.fold_in(key, number), frames, held_out)
        _, _, terms = twin_losses(net, batch, scale, psf, config)
        adam.zero_grad()
        terms[0].mean().backward()
        adam.step()
        state, mine = step(key, state, problem, 1.0, config=config)
        assert mine.positivity > 0
        assert (
            worst(tuple(mine), tuple(term.detach().mean().numpy() for term in terms))[0] < TOLERANCE
        )
    theirs, _ = published.params_from_state_dict(net.state_dict())
    assert worst(state.params, theirs)[0] < TOLERANCE
    # How far they moved is the harder test. Adam divides by the gradient's size, so rounding weighs
    # more where it is small.
    moved = [jax.tree.map(np.subtract, params, first) for params in (state.params, theirs)]
    assert worst(*moved)[0] < 10 * TOLERANCE


@pytest.mark.parametrize("rival", ["published", "tuned"])
def test_what_the_speed_comparison_races_agrees(rival):
    """The loss of both rivals, whose own code computes it, and its gradients."""
    config = paper(network=UNetConfig(depth=3, filters=8), patch_size=32)
    params, batch, _ = example(config, batch_size=3, brightness=800)
    batch = batch._replace(symmetry=np.zeros_like(batch.symmetry))
    scale = Scale(np.float32(BACKGROUND), batch.noisy.mean(), batch.noisy.std())
    psf = np.asarray(gaussian_psf(1.0, size=9))
    options = {"patch_size": 32, "depth": 3, "filters": 8}
    if rival == "published":
        theirs = pytorch_rivals.Published(batch.noisy, psf, **options)
    else:
        theirs = pytorch_rivals.Tuned(
            batch.noisy, psf.sum(axis=0), bfloat16=False, compiled=False, **options
        )
    theirs.net.load_state_dict(twin_network(params, config.network).state_dict())
    loss = theirs.loss(
        *(torch.from_numpy(np.array(array)) for array in (batch.noisy, batch.visible, batch.scored))
    )
    loss.backward()
    mine = ours(params, batch, scale, psf, config)
    assert relative(mine.terms[0].mean(), loss.detach().numpy()) < TOLERANCE
    gradients, _ = published.params_from_state_dict(
        {name: p.grad.numpy() for name, p in theirs.net.named_parameters()}
    )
    assert (
        worst(mine.gradients, gradients)[0] < 0.02
    )  # one ReLU within rounding of its kink makes 0.01


@pytest.mark.parametrize("rival", ["published", "tuned"])
def test_the_rivals_hide_as_many_pixels_as_we_do(rival):
    frames = camera_frames(np.random.default_rng(2), (3, 60, 64), brightness=900)
    if rival == "published":
        theirs = pytorch_rivals.Published(
            frames, np.ones((1, 1), np.float32), patch_size=48, depth=2, filters=2
        )
        batch = [
            torch.cat(tensors).numpy()
            for tensors in zip(*(theirs.patch(frames) for _ in range(20)), strict=True)
        ]
    else:
        theirs = pytorch_rivals.Tuned(
            frames, np.ones(1, np.float32), patch_size=48, compiled=False, depth=2, filters=2
        )
        batch = [tensor.numpy() for tensor in theirs.batch(theirs.frames)]
    noisy, visible, scored = batch
    assert scored.mean() == pytest.approx(1 / 36, rel=0.02)
    assert not (noisy != visible)[~scored].any()
    assert (noisy == visible)[scored].mean() < 0.1
    assert set(noisy.ravel()) <= set(frames.ravel())


def torch_factors(validation_losses, patience):
    """Factors on the learning rate by epoch, of PyTorch's scheduler as published."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "min", factor=0.5, patience=patience
    )
    factors = []
    for loss in validation_losses:
        scheduler.step(loss)
        factors.append(optimizer.param_groups[0]["lr"])
    return factors


def our_factors(validation_losses, patience):
    return [
        plateau_factor(validation_losses[: n + 1], patience) for n in range(len(validation_losses))
    ]


LENGTH = 75  # below 26 halvings, after which PyTorch stops halving


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 10), max_size=LENGTH), st.sampled_from([2, 3, 10]))
def test_the_plateau_is_pytorchs_on_any_losses(validation_losses, patience):
    assert our_factors(validation_losses, patience) == torch_factors(validation_losses, patience)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([0.05, 2e-4, 5e-5, 0.0, -1e-3, -0.05]), max_size=LENGTH),
    st.sampled_from([2, 10]),
)
def test_the_plateau_is_pytorchs_on_slowly_falling_losses(falls, patience):
    """PyTorch takes no loss as better that is not at least 1e-4 of the best one below it."""
    validation_losses = list(np.cumprod([1.0, *(1 - fall for fall in falls)]))
    assert our_factors(validation_losses, patience) == torch_factors(validation_losses, patience)
