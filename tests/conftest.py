import itertools
import os
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

# Compiling costs more than testing: keep the programs between runs, and have XLA compile quickly,
# unless speed is what is tested. What its flags change is the speed of single loops, and the
# rounding of sums. Set before anything imports JAX; commands that tests start inherit it. Sets that
# are asked for by -m, such as the slow tests, leave XLA its own choice of loops.
_FLAGS = ["--xla_backend_optimization_level=0"]
_QUICK = [
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_fusion_emitters=false",  # half of the time that the fast tests took
]


# Workers of xdist inherit what the first process sets.
if "benchmark" not in sys.argv and not {"XLA_FLAGS", "PYTEST_XDIST_WORKER"} & {*os.environ}:
    # Later versions lack the last flag, and an unknown one would end the process.
    if "-m" not in sys.argv and version("jaxlib").startswith("0.10."):
        _FLAGS += _QUICK
    os.environ["XLA_FLAGS"] = " ".join(_FLAGS)
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxdenoise-tests"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

from jaxtyping import config as jaxtyping_config  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# Arguments and results of annotated functions are checked: their types, dtypes and shapes.
install_import_hook("jaxdenoise", "signatures.checked")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from jaxdenoise.config import TrainConfig, UNetConfig  # noqa: E402
from jaxdenoise.microscope import synthetic  # noqa: E402
from jaxdenoise.microscope.psf import gaussian_psf  # noqa: E402
from jaxdenoise.network import unet  # noqa: E402
from jaxdenoise.network.denoiser import Denoiser, Scale  # noqa: E402
from jaxdenoise.network.settings import settle  # noqa: E402

# A deadline would measure the machine, and what else runs on it.
hypothesis.settings.register_profile("jaxdenoise", deadline=None)
hypothesis.settings.load_profile("jaxdenoise")

_MAPS = Path("/proc/self/maps")
_MOST_MAPS = 45_000  # of the 65,530 that Linux allows a process; each compiled program takes a few
_TESTS_BETWEEN_LOOKS = 25  # to list so many maps takes the kernel longer than most tests take
_since_look = itertools.count(1)


@pytest.fixture(autouse=True)
def _forget_compiled_programs_in_time():
    """All tests in one process would run out of memory maps."""
    yield
    if next(_since_look) % _TESTS_BETWEEN_LOOKS or not _MAPS.exists():
        return
    if len(_MAPS.read_bytes().splitlines()) > _MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def _leave_wrong_types_to_the_function(request):
    """Switch the checks of signatures off for tests that are marked ``wrong_types``."""
    marked = request.node.get_closest_marker("wrong_types") is not None
    jaxtyping_config.update("jaxtyping_disable", marked)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def tiny_config():
    """A training that takes a second."""
    return TrainConfig(
        network=UNetConfig(depth=2, filters=4),
        patch_size=32,
        batch_size=4,
        epochs=4,
        steps_per_epoch=5,
        validation_patches=8,
        symmetries=1,
    )


@pytest.fixture(scope="session")
def scene():
    """A small synthetic stack: 3 frames of 48x56 pixels, with its truth."""
    return synthetic.static_scene(jax.random.key(5), frames=3, shape=(48, 56), psf_sigma=1.0)


def _drawn(network, rng):
    """Weights as `unet.init` draws them, by NumPy, which compiles nothing."""
    shapes = jax.eval_shape(partial(unet.init, config=network), jax.random.key(0))

    def draw(leaf):
        ways = (
            leaf.shape[0] * leaf.shape[1] * (leaf.shape[2] + leaf.shape[3]) if leaf.ndim == 4 else 1
        )
        std = (2 / ways) ** 0.5 if leaf.ndim == 4 else 0.0  # Xavier's, and no bias
        return jax.numpy.asarray(rng.normal(0, std, leaf.shape).astype(np.float32))

    return jax.tree.map(draw, shapes)


@pytest.fixture(scope="session")
def make_denoiser():
    """Denoisers with random weights: no training, but every part of a prediction."""

    def make(*, psf=None, seed=0, background=100.0, std=30.0, precision="float32", **network):
        asked = UNetConfig(**{"filters": 4, **network})
        config = settle(TrainConfig(network=asked, symmetries=1, precision=precision))
        params = _drawn(config.network, np.random.default_rng(seed))
        scale = Scale(*(np.float32(v) for v in (background, 50.0, std, 0.0, 0.0)))
        psf = np.asarray(gaussian_psf(1.0) if psf is None else psf)
        return Denoiser(params, params, params, psf, scale, {}, config)

    return make
