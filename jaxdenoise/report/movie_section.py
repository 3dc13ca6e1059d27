"""The section of a report about a movie: traces, their spectra, and the leak test. Host side."""

import numpy as np

from jaxdenoise.report import charts, page
from jaxdenoise.report.traces import BOX, Traces, spectra

_FAST = 0.5  # of the highest frequency: the faster half


def movie_section(traces: Traces | None) -> str:
    """Return traces before and after at the places that change most; nothing where none does.

    What became of known transients is a check of the verdict, which holds the numbers.
    """
    if traces is None:
        return ""
    figures = [_trace(traces, place) for place in range(len(traces.places))]
    figures.append(_spectra(traces))
    text = page.paragraph(
        f"Means over {BOX} x {BOX} pixels at the places that change most, before and after. A "
        "trace that is smoother than the noisy one is what denoising is for; peaks that come too "
        "early, too late or too low are not. The verdict tells what became of known transients."
    )
    return text + page.figures(*figures)


def _trace(traces, place):
    row, column = traces.places[place]
    noisy, denoised = traces.noisy[place], traces.denoised[place]
    peak = int(np.argmax(denoised))
    told = (
        f"row {row}, column {column}: the noise of the mean was {traces.noise[place]:.3g} grey "
        f"levels; the highest denoised value is {denoised[peak]:.4g} in frame "
        f"{traces.first + peak + 1}, where the noisy one is {noisy[peak]:.4g}"
    )
    alt = f"Trace at {told}."
    caption = f"At {told}."
    title = f"Place {place + 1}"
    return page.figure(title, charts.trace(alt, traces, place), caption)


def _spectra(traces):
    found = spectra(traces)
    fast = found.frequency > _FAST * found.frequency[-1]
    kept = float(found.denoised[fast].sum() / max(found.noisy[fast].sum(), 1e-30))
    told = (
        f"in the faster half of the frequencies, {kept:.1%} of the power is left: noise is the "
        "same at all of them, transients are not"
    )
    alt = f"Spectra of the traces before and after: {told}."
    drawing = charts.trace_spectra(alt, found, hertz=traces.interval is not None)
    caption = f"Power by frequency, mean over the places: {told}."
    return page.figure("Their spectra", drawing, caption)
