"""The U-Net against a network of SciPy and scikit-image calls; its size and receptive field."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import block_reduce

from jaxdenoise.network import unet
from jaxdenoise.network.settings import NetworkShape

RNG = np.random.default_rng(0)
SMALL = NetworkShape(depth=2, filters=2)


def shapes(config):
    return jax.eval_shape(functools.partial(unet.init, config=config), jax.random.key(0))


def parameters(config):
    """Random parameters, with biases that are not zero."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        std = np.prod(leaf.shape[:3]) ** -0.5 if leaf.ndim == 4 else 0.3
        return rng.normal(0, std, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, shapes(config))


@functools.cache
def network(config):
    return jax.jit(functools.partial(unet.apply, config=config))


def flat(params):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


gradients = jax.jit(
    jax.grad(lambda params, images: jnp.sum(unet.apply(params, images, SMALL) ** 2), argnums=(0, 1))
)
initialise = jax.jit(unet.init, static_argnums=1)


# The network once more, for one image, in float64


def convolution(x, layer):
    kernel = np.asarray(layer["kernel"], np.float64)
    channels = [
        sum(
            ndimage.correlate(x[..., i], kernel[:, :, i, o], mode="constant")
            for i in range(kernel.shape[2])
        )
        + float(layer["bias"][o])
        for o in range(kernel.shape[3])
    ]
    return np.stack(channels, axis=-1)


def pair(x, layers):
    for name in ("conv1", "conv2"):
        x = np.maximum(convolution(x, layers[name]), 0)
    return x


def blurred_maxima(x):
    """SciPy's maxima of 2x2 pixels, convolved with (1, 2, 1) / 4, every second of them."""
    x = ndimage.maximum_filter(x, (2, 2, 1), mode="nearest", origin=(-1, -1, 0))
    for axis in (0, 1):
        x = ndimage.convolve1d(x, np.array([1, 2, 1]) / 4, axis=axis, mode="nearest")
    return x[::2, ::2]


def reference(params, image, config):
    x, skips = np.asarray(image, np.float64)[..., None], []
    for level in range(config.depth):
        x = pair(x, params[f"down_convs_{level}"])
        if level < config.depth - 1:
            skips.append(x)
            x = block_reduce(x, (2, 2, 1), np.max) if config.pooling == "max" else blurred_maxima(x)
    if not config.top_skip:
        skips[0] = None
    for step in range(config.depth - 1):
        layers, skip = params[f"up_convs_{step}"], skips.pop()
        kernel = np.asarray(layers["upconv_kernel"], np.float64)
        x = sum(np.kron(x[..., i, None], kernel[:, :, i]) for i in range(x.shape[-1])) + np.asarray(
            layers["upconv_bias"], np.float64
        )
        if skip is not None:
            x = x + skip if config.skip == "add" else np.concatenate([x, skip], -1)
        x = pair(x, layers)
    return convolution(x, params["conv_final"])[..., 0]


N2V2 = {"top_skip": False, "pooling": "blur"}


@pytest.mark.parametrize(
    ("depth", "skip", "more"),
    [
        (1, "add", {}),
        (2, "add", {}),
        (3, "add", {}),
        (3, "concat", {}),
        (3, "add", N2V2),
        (2, "concat", N2V2),
    ],
)
def test_the_network_is_the_one_of_scipy(depth, skip, more):
    config = NetworkShape(depth=depth, filters=3, skip=skip, **more)
    images = normal(2, 12, 8)
    result = network(config)(parameters(config), images)
    assert result.shape == images.shape
    assert result.dtype == jnp.float32
    for image, output in zip(images, result, strict=True):
        np.testing.assert_allclose(output, reference(parameters(config), image, config), atol=2e-5)


def test_the_gradient_is_a_finite_difference_of_the_reference():
    params, image = parameters(SMALL), normal(8, 6)
    along = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape), params)

    def loss(step):
        moved = jax.tree.map(
            lambda leaf, direction: np.asarray(leaf, np.float64) + step * direction, params, along
        )
        return np.sum(reference(moved, image, SMALL) ** 2)

    gradient, _ = gradients(params, image[None])
    slope = sum(
        np.vdot(g, a)
        for g, a in zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True)
    )
    assert slope == pytest.approx((loss(1e-6) - loss(-1e-6)) / 2e-6, rel=1e-3)


# Its parts


def test_max_pooling_is_scikit_images():
    x = normal(2, 8, 6, 3)
    np.testing.assert_array_equal(
        unet._max_pool(jnp.asarray(x)), block_reduce(x, (1, 2, 2, 1), np.max)
    )


def test_the_transposed_convolution_is_jaxs():
    x, kernel = normal(2, 5, 4, 3), normal(2, 2, 3, 6)
    # JAX's "transposed" kernel is that of the convolution whose gradient this is: channels out, in.
    expected = jax.lax.conv_transpose(
        x,
        kernel.swapaxes(2, 3),
        (2, 2),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        transpose_kernel=True,
    )
    np.testing.assert_allclose(
        unet._transposed_conv(jnp.asarray(x), jnp.asarray(kernel), "float32", "cpu"),
        expected,
        atol=1e-5,
    )


def test_the_transposed_convolution_is_pytorchs():
    torch = pytest.importorskip("torch")
    x, kernel = normal(2, 5, 4, 3), normal(2, 2, 3, 6)
    expected = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(kernel.transpose(2, 3, 0, 1).copy()),
        stride=2,
    )
    result = unet._transposed_conv(jnp.asarray(x), jnp.asarray(kernel), "float32", "cpu")
    np.testing.assert_allclose(result, expected.numpy().transpose(0, 2, 3, 1), atol=1e-5)


# Parameters


def test_the_published_network_has_the_published_number_of_parameters():
    def conv(side, inputs, outputs):
        return side * side * inputs * outputs + outputs

    down = (
        conv(3, 1, 64)
        + conv(3, 64, 64)
        + conv(3, 64, 128)
        + conv(3, 128, 128)
        + conv(3, 128, 256)
        + conv(3, 256, 256)
    )
    up = conv(2, 256, 128) + 2 * conv(3, 128, 128) + conv(2, 128, 64) + 2 * conv(3, 64, 64)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(NetworkShape()))) == down + up + conv(
        1, 64, 1
    )


def test_concatenation_doubles_the_inputs_of_one_convolution_a_level():
    add, concat = flat(shapes(NetworkShape())), flat(shapes(NetworkShape(skip="concat")))
    assert add.keys() == concat.keys()
    changed = {name for name in add if add[name].shape != concat[name].shape}
    assert changed == {"up_convs_0/conv1/kernel", "up_convs_1/conv1/kernel"}
    assert concat["up_convs_0/conv1/kernel"].shape == (3, 3, 256, 128)


def test_the_parameters_names():
    expected = {
        f"down_convs_{level}/{conv}/{part}"
        for level in range(3)
        for conv in ("conv1", "conv2")
        for part in ("kernel", "bias")
    }
    expected |= {
        f"up_convs_{step}/{conv}/{part}"
        for step in range(2)
        for conv in ("conv1", "conv2")
        for part in ("kernel", "bias")
    }
    expected |= {
        f"up_convs_{step}/upconv_{part}" for step in range(2) for part in ("kernel", "bias")
    }
    assert flat(shapes(NetworkShape())).keys() == expected | {
        "conv_final/kernel",
        "conv_final/bias",
    }


def test_the_first_weights_are_xavier_normal_and_the_biases_zero():
    params = flat(initialise(jax.random.key(0), NetworkShape(depth=2, filters=32)))
    large = 0
    for name, leaf in params.items():
        assert leaf.dtype == jnp.float32
        if leaf.ndim == 1:
            assert (leaf == 0).all(), name
        elif leaf.size > 2000:
            large += 1
            height, width, inputs, outputs = leaf.shape
            std = np.sqrt(2 / (height * width * (inputs + outputs)))
            assert leaf.std() == pytest.approx(std, rel=5 / np.sqrt(2 * leaf.size)), name
            assert abs(leaf.mean()) < 5 * std / np.sqrt(leaf.size), name
            assert abs(leaf).max() > 3 * std, name  # not truncated
    assert large == 6


def test_init_is_decided_by_its_key():
    first, again, other = (
        flat(initialise(jax.random.key(seed), NetworkShape(depth=2, filters=32)))
        for seed in (0, 0, 1)
    )
    for name, leaf in first.items():
        np.testing.assert_array_equal(leaf, again[name])
    assert any((leaf != other[name]).any() for name, leaf in first.items())


# Images


@pytest.mark.wrong_types
@pytest.mark.parametrize("shape", [(1, 6, 8), (1, 8, 10), (8, 8), (1, 8, 8, 1)], ids=str)
def test_sizes_that_do_not_fit_are_refused(shape):
    config = NetworkShape(depth=3, filters=2)
    with pytest.raises(ValueError, match="multiples of 4"):
        unet.apply(parameters(config), jnp.zeros(shape), config)


def test_jit_vmap_and_a_loop_agree():
    params, images = parameters(SMALL), normal(3, 8, 6)
    together = network(SMALL)(params, images)
    looped = [unet.apply(params, image[None], SMALL)[0] for image in images]  # without jit
    mapped = jax.jit(jax.vmap(lambda image: unet.apply(params, image[None], SMALL)[0]))(images)
    np.testing.assert_allclose(together, looped, atol=1e-5)
    np.testing.assert_allclose(together, mapped, atol=1e-5)


@pytest.mark.parametrize(
    "images", [np.zeros((1, 8, 6), np.float32), normal(1, 8, 6)], ids=["zeros", "noise"]
)
def test_gradients_are_finite(images):
    by_params, by_images = gradients(parameters(SMALL), images)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((by_params, by_images)))
    assert by_images.shape == images.shape


@pytest.mark.parametrize(
    ("depth", "more"),
    [
        (1, {}),
        (2, {}),
        (3, {"skip": "concat"}),
        (4, {}),
        (2, {"stride": 3}),
        (3, {"pooling": "blur"}),
        (2, {"space_to_depth": 2}),
        (2, {"space_to_depth": 2, "stride": 2}),
    ],
    ids=str,
)
def test_the_radius_is_as_far_as_a_pixel_reaches(depth, more):
    config = NetworkShape(depth=depth, filters=1, **{"stride": 1, **more})
    # Positive means in place of all weights: nothing cancels, no ReLU and no maximum hides a bright
    # enough pixel.
    params = jax.tree.map(
        lambda leaf: np.full(leaf.shape, leaf.shape[-1] / leaf.size * (leaf.ndim == 4), np.float32),
        shapes(config),
    )
    multiple, reach = config.multiple, config.radius + config.multiple
    side = -(-(2 * reach + multiple) // multiple) * multiple
    first = reach // multiple * multiple + np.arange(
        multiple
    )  # all places of a pixel on the pooling grids
    images = np.ones((multiple + 1, side, side), np.float32)
    places = list(zip(first, first[::-1], strict=True))
    for image, place in zip(images, places, strict=False):
        image[place] = 1e25
    *outputs, plain = np.asarray(network(config)(params, images))
    measured = [
        np.abs(np.argwhere(output != plain) - place).max()
        for output, place in zip(outputs, places, strict=True)
    ]
    assert max(measured) <= config.radius
    assert config.radius - max(measured) <= multiple
    assert len(outputs) == multiple


def test_an_image_moved_by_a_multiple_gives_a_moved_output():
    config = NetworkShape(depth=3, filters=2)
    image, move, margin = (
        normal(64, 68),
        (config.multiple, -config.multiple),
        config.radius + config.multiple,
    )
    here, there = network(config)(
        parameters(config), np.stack([image, np.roll(image, move, (0, 1))])
    )
    inner = np.s_[margin:-margin, margin:-margin]
    assert np.std(here[inner]) > 0
    np.testing.assert_allclose(np.roll(here, move, (0, 1))[inner], there[inner], atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_stride_is_the_network_on_each_interleaved_part(stride):
    config = NetworkShape(depth=2, filters=4, stride=stride)
    params, images = parameters(config), normal(2, 6 * stride, 8 * stride)
    whole = network(config)(params, images)
    for row in range(stride):
        for column in range(stride):
            part = (slice(None), slice(row, None, stride), slice(column, None, stride))
            alone = network(NetworkShape(depth=2, filters=4))(params, images[part])
            np.testing.assert_allclose(whole[part], alone, rtol=1e-5, atol=1e-6)


def test_space_to_depth_is_the_network_on_the_parts_of_each_block():
    torch = pytest.importorskip("torch")
    config = NetworkShape(depth=2, filters=4, space_to_depth=2)
    params, images = parameters(config), normal(2, 12, 16)
    whole = torch.from_numpy(np.array(network(config)(params, images)))[:, None]
    unshuffle = torch.nn.functional.pixel_unshuffle
    seen = unshuffle(torch.from_numpy(images)[:, None], 2).numpy()
    # A network that sees four images and returns one.
    four = NetworkShape(depth=2, filters=4, neighbours=1, guided=True)
    for part, found in enumerate(unshuffle(whole, 2).numpy().swapaxes(0, 1)):
        last = jax.tree.map(lambda leaf, n=part: leaf[..., n : n + 1], params["conv_final"])
        alone = unet.apply(params | {"conv_final": last}, seen[:, 0], four, beside=seen[:, 1:])
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)


def test_a_stride_widens_the_field_and_the_grid():
    config = NetworkShape(depth=3, filters=4, stride=3)
    assert (config.multiple, config.stride) == (12, 3)
    assert config.radius == 3 * (NetworkShape(depth=3).radius - 3) + 11


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth": 2},
        {"skip": "concat"},
        {"top_skip": False},
        {"stride": 2},
        {"pooling": "blur"},
        {"space_to_depth": 2},
    ],
)
def test_without_its_rim_a_result_is_the_inner_part(options):
    shape = NetworkShape(filters=4, **options)
    side = 2 * shape.radius + 4 * shape.multiple
    side += -side % shape.multiple
    image = np.random.default_rng(0).standard_normal((1, side, side)).astype(np.float32)
    params = unet.init(jax.random.key(0), shape)
    whole = unet.apply(params, image, shape)
    part = unet.apply(params, image, shape, padded=False)
    assert part.shape[1] == side - 2 * shape.rim
    assert shape.rim <= shape.radius
    # What is nearer to the border than the radius sees the zeros outside.
    inner = slice(shape.radius, side - shape.radius)
    same = slice(shape.radius - shape.rim, part.shape[1] - shape.radius + shape.rim)
    np.testing.assert_allclose(part[:, same, same], whole[:, inner, inner], atol=1e-6)
