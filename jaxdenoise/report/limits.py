"""What no measurement on the images can rule out, for the readers of a report."""

from html import escape

from jaxdenoise.report import page

LIMITS = (
    (
        "Noise that neighbouring pixels share",
        "A network tells noise from signal because neighbouring pixels do not share their noise. "
        "Noise that spreads over several pixels (after resampling, JPEG compression or smoothing "
        "in the camera) can be predicted from the neighbours, so it stays in the result. A wide "
        "Gaussian filter is safer for such images.",
    ),
    (
        "A wrong PSF",
        "If the PSF is too wide, fine detail is lost and edges ring. If it is too narrow, more "
        "noise stays. Its sigma is not its full width at half maximum, which is 2.355 times as "
        "large.",
    ),
    (
        "A wrong background",
        "The training assumes that light cannot be negative. A background that is too high makes "
        "dark areas too bright. With one that is too low, this assumption no longer helps.",
    ),
    (
        "Trust in the deconvolved image",
        "What the PSF removes cannot be checked against the data: many deconvolved images fit "
        "equally well. Measure in the denoised image.",
    ),
    (
        "Invented structure",
        "Where there is little light, a network fills in what it has seen elsewhere. Compare with "
        "the noisy image at the same place, and look at the residual: it should show no outlines "
        "of the sample.",
    ),
    (
        "What does no harm",
        "Moving samples, because each frame is denoised by itself (unless the network saw "
        "neighbouring frames). Photon noise that grows with the signal. Frames of different "
        "fields of view.",
    ),
)


def limits_section() -> str:
    """Return the section of a report that says them."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>\n" for name, text in LIMITS
    )
    text = page.paragraph(
        "No check on this page can rule out the following. They depend on the microscope and the "
        "sample, which you know and the program does not."
    )
    return page.section("limits", "What could be wrong", f'{text}<dl class="limits">\n{items}</dl>')
