"""What was given, assumed or found of the settings of a result. Host side."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxdenoise.microscope.psf import in_plane
from jaxdenoise.microscope.widths import full_widths, sigma_from_fwhm
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.report.content import Origin
from jaxdenoise.workflows.requests import DenoiseRequest, SweepRequest, TrainRequest
from jaxdenoise.workflows.settings import Training


def origins_of(
    request: DenoiseRequest | TrainRequest | SweepRequest,
    denoiser: Denoiser,
    evidence: Sequence[str] = (),
) -> tuple[Origin, ...]:
    """Return where the settings of a model came from that change what a result looks like.

    Args:
        request: what was asked for.
        denoiser: the model.
        evidence: a line for each choice; one that begins with "PSF: " says where the PSF is from.
    """
    said = next((line for line in evidence if line.startswith("PSF: ")), None)
    return tuple(_origins(request, request.training, denoiser, said))


def _origins(
    request: Any, training: Training, denoiser: Denoiser, said: str | None
) -> Iterator[Origin]:
    asked, config = training.config(), denoiser.config
    loaded = bool(getattr(request, "model", None))
    instant = bool(getattr(request, "instant", False))
    words, how = _psf(request, training, denoiser, loaded=loaded, instant=instant)
    if how == "assumed" and said is not None and "assumed" not in said:
        how = "file"
    yield Origin("PSF", words, how)
    how = "found" if asked.background == "auto" else "given"
    yield Origin("Background", f"{float(denoiser.scale.background):.4g} grey levels", how)
    if float(denoiser.scale.noise) > 0:
        how = "found" if getattr(request, "noise", None) is None else "given"
        yield Origin("Noise", f"{float(denoiser.scale.noise):.4g} grey levels", how)
    stride, network = config.network.stride, config.network
    how = "found" if asked.network.stride == "auto" or loaded else "given"
    words = "1, every pixel" if stride == 1 else f"{stride}, for noise that neighbours share"
    yield Origin("Stride", words, how)
    if denoiser.history:
        how = "found" if asked.blind == "auto" or loaded else "given"
        yield Origin("Hidden pixels", " x ".join(str(2 * n + 1) for n in config.blind), how)
        how = "found" if asked.targets == "auto" or loaded else "given"
        repeats = config.targets == "repeats"
        words = "other frames of the same scene" if repeats else "the image's own pixels"
        yield Origin("Targets", words, how)
    how = "found" if training.neighbours is None or training.guided or loaded else "given"
    words = f"{network.neighbours} on each side" if network.neighbours else "none"
    yield Origin("Other frames", f"{words}, and a guide" if network.guided else words, how)


def _psf(
    request: Any, training: Training, denoiser: Denoiser, *, loaded: bool, instant: bool
) -> Sequence[str]:
    psf = in_plane(denoiser.psf)
    if psf.size == 1:
        return "none", "given" if training.psf_name == "none" else "not used"
    widths = [width for width in full_widths(psf) if np.isfinite(width)]
    sigma = f"{np.asarray(sigma_from_fwhm(np.mean(widths))):.2f}" if widths else "unknown"
    words = f"sigma {sigma} pixels"
    if isinstance(request, SweepRequest) or training.psf_name == "auto":
        return words, "found"
    if instant:
        return words, "network"
    if loaded or training.psf is not None or training.optics is not None:
        return words, "given"
    return words, "assumed"
