"""Published weights: in and out without loss; files that could run code are refused unopened."""

import functools
import pickle
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network import published, unet
from jaxdenoise.network.denoiser import Denoiser, Scale
from jaxdenoise.network.published import WeightsError
from jaxdenoise.network.settings import NetworkShape
from jaxdenoise.prediction.tiles import denoise

NETWORKS = [
    NetworkShape(depth=1, filters=3),
    NetworkShape(depth=2, filters=1),
    NetworkShape(depth=2, filters=1, skip="concat"),
    NetworkShape(depth=3, filters=4),
    NetworkShape(depth=3, filters=4, skip="concat"),
    NetworkShape(depth=4, filters=2, skip="concat"),
]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def twin(torch):
    from common import pytorch_rivals

    torch.manual_seed(0)
    return pytorch_rivals


@functools.cache
def shapes_of(network):
    return jax.eval_shape(lambda: unet.init(jax.random.key(0), network))


def random_params(network, seed=0):
    """The structure of `unet.init`, every number its own."""
    shapes, rng = shapes_of(network), np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)


def state_dict(network=NETWORKS[3]):
    """Of depth 3 and 4 filters, by default."""
    return published.state_dict_from_params(random_params(network), network)


def refused(match, call, *args, **kwargs):
    """The call raises a WeightsError of one line that matches."""
    with pytest.raises(WeightsError, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)


def same_arrays(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], strict=True, err_msg=name)


class TestMapping:
    @pytest.mark.parametrize("network", NETWORKS, ids=str)
    def test_round_trip_is_exact(self, network):
        params = random_params(network)
        back, found = published.params_from_state_dict(
            published.state_dict_from_params(params, network)
        )
        assert found == network
        assert jax.tree.structure(back) == jax.tree.structure(params)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), back, params)

    @pytest.mark.parametrize("network", NETWORKS, ids=str)
    def test_names_and_shapes_are_pytorchs(self, network, twin):
        net = twin.UNet(depth=network.depth, filters=network.filters, merge=network.skip)
        expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
        assert {name: value.shape for name, value in state_dict(network).items()} == expected

    @pytest.mark.parametrize("network", NETWORKS, ids=str)
    def test_pytorch_round_trip_is_exact(self, network, twin):
        """Also takes the tensors themselves, and any order of the names."""
        tensors = twin.UNet(
            depth=network.depth, filters=network.filters, merge=network.skip
        ).state_dict()
        params, found = published.params_from_state_dict(dict(reversed(tensors.items())))
        assert found == network
        same_arrays(
            published.state_dict_from_params(params, found),
            {name: tensor.numpy() for name, tensor in tensors.items()},
        )

    @pytest.mark.parametrize("dtype", [np.float16, np.float64])
    def test_other_precisions_become_float32(self, dtype):
        params, _ = published.params_from_state_dict(
            {name: value.astype(dtype) for name, value in state_dict().items()}
        )
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}

    def test_the_arrays_are_copies(self):
        """PyTorch's optimisers write into their weights, which must not reach ours.

        It warns of arrays that it could not write to.
        """
        arrays = state_dict()
        before = {name: value.copy() for name, value in arrays.items()}
        params, network = published.params_from_state_dict(arrays)
        for value in arrays.values():
            value += 1
        same_arrays(published.state_dict_from_params(params, network), before)
        on_device = jax.tree.map(jnp.asarray, params)
        for name, value in published.state_dict_from_params(on_device, network).items():
            assert value.flags.writeable, name


class TestWrongWeights:
    @pytest.mark.parametrize("network", NETWORKS, ids=str)
    def test_any_array_missing(self, network):
        for name in state_dict(network):
            arrays = state_dict(network)
            del arrays[name]
            refused(
                "not the published U-Net|these are not the weights",
                published.params_from_state_dict,
                arrays,
            )

    @pytest.mark.parametrize("name", state_dict())
    def test_any_array_of_another_shape(self, name):
        arrays = state_dict()
        arrays[name] = np.concatenate([arrays[name]] * 2)
        refused("not the published U-Net", published.params_from_state_dict, arrays)

    def test_the_message_names_the_array(self):
        arrays = state_dict()
        arrays["up_convs.1.conv2.bias"] = np.zeros(5, np.float32)
        refused(
            r"depth 3, 4 filters: up_convs\.1\.conv2\.bias differ",
            published.params_from_state_dict,
            arrays,
        )

    @pytest.mark.parametrize(
        "name", ["conv_final.scale", "bn.running_mean", "down_convs.9.conv2.bias"]
    )
    def test_an_array_too_many(self, name):
        refused(
            re.escape(name),
            published.params_from_state_dict,
            {**state_dict(), name: np.zeros(4, np.float32)},
        )

    @pytest.mark.parametrize(
        "arrays",
        [
            {},
            {"weight": np.zeros(3)},
            {f"module.{name}": value for name, value in state_dict().items()},
            {"down_convs.0.conv1.weight": np.zeros(4)},
            {"down_convs.0.conv1.weight": np.float32(0)},
        ],
        ids=["empty", "another network", "prefixed", "flat", "scalar"],
    )
    def test_not_such_a_network(self, arrays):
        refused(
            "these are not the weights of the published U-Net",
            published.params_from_state_dict,
            arrays,
        )

    def test_colour_images_are_not_its_input(self):
        arrays = state_dict()
        arrays["down_convs.0.conv1.weight"] = np.zeros((4, 3, 3, 3), np.float32)
        refused(r"down_convs\.0\.conv1\.weight", published.params_from_state_dict, arrays)


class Trap:
    """Pickles as a call that creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestFiles:
    def test_npz(self, tmp_path):
        np.savez(tmp_path / "weights.npz", **state_dict())
        same_arrays(published.read_state_dict(tmp_path / "weights.npz"), state_dict())

    def test_npz_by_a_string_path(self, tmp_path):
        np.savez_compressed(tmp_path / "weights.npz", **state_dict())
        same_arrays(published.read_state_dict(str(tmp_path / "weights.npz")), state_dict())

    @pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "last_weights.net"])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_a_saved_state_dict(self, tmp_path, torch, twin, name, zipped):
        net = twin.UNet(depth=2, filters=3)
        torch.save(net.state_dict(), tmp_path / name, _use_new_zipfile_serialization=zipped)
        arrays = published.read_state_dict(tmp_path / name)
        same_arrays(arrays, {key: tensor.numpy() for key, tensor in net.state_dict().items()})
        assert all(isinstance(value, np.ndarray) for value in arrays.values())

    def test_missing(self, tmp_path):
        refused("no such file", published.read_state_dict, tmp_path / "weights.pth")
        refused("no such file", published.read_state_dict, tmp_path)

    @pytest.mark.parametrize(
        "content", [b"", b"PK\x03\x04", b"not weights at all", bytes(range(256)) * 8]
    )
    @pytest.mark.parametrize("name", ["weights.npz", "weights.pth"])
    def test_garbage(self, tmp_path, torch, name, content):
        (tmp_path / name).write_bytes(content)
        refused(f"{name}: not a state_dict", published.read_state_dict, tmp_path / name)

    @pytest.mark.parametrize("name", ["weights.npz", "weights.pth"])
    def test_cut_short(self, tmp_path, torch, name):
        path = tmp_path / name
        if path.suffix == ".npz":
            np.savez(path, **state_dict())
        else:
            torch.save({key: torch.from_numpy(value) for key, value in state_dict().items()}, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused("not a state_dict", published.read_state_dict, path)

    def test_without_pytorch(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        np.savez(tmp_path / "weights.npz", **state_dict())
        same_arrays(published.read_state_dict(tmp_path / "weights.npz"), state_dict())
        (tmp_path / "weights.pth").touch()
        refused(
            "needs PyTorch.*or export the weights as .npz",
            published.read_state_dict,
            tmp_path / "weights.pth",
        )

    def test_a_pickled_network(self, tmp_path, torch, twin):
        """What the published code saves: opening it would import and run whatever it names."""
        torch.save(twin.UNet(depth=2, filters=3), tmp_path / "last.net")
        refused(
            r"export it with torch\.save\(network\.state_dict\(\)",
            published.read_state_dict,
            tmp_path / "last.net",
        )

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("nested", [True, False])
    def test_a_trap_in_a_torch_file_does_not_run(self, tmp_path, torch, zipped, nested):
        trap, sprung = tmp_path / "weights.pth", tmp_path / "sprung"
        content = (
            {"down_convs.0.conv1.weight": torch.zeros(4, 1, 3, 3), "conv_final.bias": Trap(sprung)}
            if nested
            else Trap(sprung)
        )
        torch.save(content, trap, _use_new_zipfile_serialization=zipped)
        refused("not a state_dict", published.read_state_dict, trap)
        assert not sprung.exists()
        torch.load(trap, weights_only=False)
        assert sprung.exists(), "the trap must work, or this test shows nothing"

    @pytest.mark.parametrize("name", ["weights.pth", "weights.npz", "weights.pkl"])
    def test_a_trap_in_a_plain_pickle_does_not_run(self, tmp_path, torch, name):
        trap, sprung = tmp_path / name, tmp_path / "sprung"
        trap.write_bytes(
            pickle.dumps(Trap(sprung), protocol=2)
        )  # the protocol of PyTorch's own files
        refused("not a state_dict", published.read_state_dict, trap)
        assert not sprung.exists()
        pickle.loads(trap.read_bytes())
        assert sprung.exists(), "the trap must work, or this test shows nothing"

    def test_a_trap_in_an_array_does_not_run(self, tmp_path):
        trap, sprung = tmp_path / "weights.npz", tmp_path / "sprung"
        np.savez(trap, **{"down_convs.0.conv1.weight": np.array([Trap(sprung)], dtype=object)})
        refused("not a state_dict", published.read_state_dict, trap)
        assert not sprung.exists()
        np.load(trap, allow_pickle=True)["down_convs.0.conv1.weight"]
        assert sprung.exists(), "the trap must work, or this test shows nothing"

    def test_other_things_torch_saves(self, tmp_path, torch):
        for content in (
            torch.zeros(3),
            [torch.zeros(3)],
            {"epoch": 3},
            {"state_dict": {"weight": torch.zeros(3)}},
            "text",
            None,
        ):
            torch.save(content, tmp_path / "weights.pth")
            refused("not a state_dict", published.read_state_dict, tmp_path / "weights.pth")


class TestDenoiser:
    MEAN, STD, BACKGROUND = 900.0, 350.0, 520.0

    def denoiser(self, arrays, psf):
        return published.denoiser(
            arrays, psf=psf, mean=self.MEAN, std=self.STD, background=self.BACKGROUND
        )

    @pytest.mark.parametrize(
        "network",
        [NetworkShape(depth=2, filters=4), NetworkShape(depth=3, filters=3, skip="concat")],
        ids=str,
    )
    def test_denoises_as_pytorch_does(self, network, torch, twin):
        """Far from the border: there the published code sees zeros, the library a reflection."""
        net = twin.UNet(depth=network.depth, filters=network.filters, merge=network.skip)
        for parameter in net.parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, std=0.1)
        psf = np.random.default_rng(1).random((3, 7))
        rng = np.random.default_rng(0)
        image = rng.poisson(self.MEAN, (75, 91)).astype(np.float32) + np.float32(self.BACKGROUND)
        denoiser = self.denoiser(net.state_dict(), psf)
        result = denoise(denoiser, image, keep_light=False)
        whole = tuple(n // network.multiple * network.multiple for n in image.shape)
        with torch.no_grad():
            signal = torch.from_numpy(image[: whole[0], : whole[1]] - np.float32(self.BACKGROUND))
            z = twin.deconvolved(net, signal[None], mean=self.MEAN, std=self.STD)[0]
            s = twin.blurred(z, torch.from_numpy((psf / psf.sum()).astype(np.float32)))
        margin = network.radius + max(psf.shape) // 2
        inside = tuple(slice(margin, n - margin) for n in whole)
        assert min(n - 2 * margin for n in whole) >= 8
        for ours, theirs in zip(result, (s, z), strict=True):
            expected = theirs.numpy()[inside] + self.BACKGROUND
            assert ours.shape == image.shape
            assert expected.std() > 1
            np.testing.assert_allclose(
                ours[inside], expected, rtol=0, atol=1e-5 * np.abs(expected).max()
            )

    def test_stores_what_it_was_given(self):
        network = NetworkShape(depth=2, filters=4, skip="concat")
        psf = 7 * np.asarray(gaussian_psf(1.0))
        denoiser = self.denoiser(state_dict(network), psf)
        assert isinstance(denoiser, Denoiser)
        assert denoiser.config.network == network
        assert denoiser.scale.background == self.BACKGROUND
        # Of the images' exposure nothing is known.
        assert denoiser.scale == Scale(self.BACKGROUND, self.MEAN, self.STD)
        np.testing.assert_allclose(denoiser.psf, gaussian_psf(1.0), rtol=1e-6)
        jax.tree.map(np.testing.assert_array_equal, denoiser.params, random_params(network))

    def test_a_psf_that_is_none(self):
        with pytest.raises(ValueError, match="odd"):
            self.denoiser(state_dict(), np.ones((4, 4)))
