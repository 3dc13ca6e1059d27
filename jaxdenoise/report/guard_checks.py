"""The checks of the guard: a frame's measures in, findings in words out. Host side.

A limit asks for two things: more than chance allows (standard errors from the noise measured in the
frame itself), and more than a trifle (a share of the signal, or of the noise): in a bright image a
bias of a thousandth is certain and harmless. `experiments/guard_rates.py` measures how often the
limits warn of good results and miss bad ones.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from jaxdenoise.report.findings import CARE, FINE, STOP

# In the order in which a verdict tells them.
CHECKS = ("peaks", "mean", "dimmed peaks", "totals", "sharpening", "structure", "power")

ERRORS = 5.0  # standard errors, for quantities of a whole frame
MEAN = 0.01  # of the frame's signal above the background
PEAKS, PEAKS_STOP = 0.03, 0.1  # growth of the brightest 0.1 % over their signal
DIMMED, DIMMED_STOP = 0.15, 0.4  # loss of the brightest 0.1 % over their signal
TOTALS, TOTALS_STOP = 0.02, 0.05  # change of totals of 32 x 32 and 64 x 64 pixels over the signal
BLOB, BLOB_STOP = 6.5, 10.0  # standard errors of the mean of 4 x 4 to 16 x 16 pixels
# Power of fine detail that is stronger than the noisy image has it, over the noise's: beyond five
# standard errors of chance, no result of the package's network on white noise had any.
SHARPENED, SHARPENED_STOP = 0.005, 0.06
# Change of fine detail, and root mean square of the residual over the contrast in the busiest
# cells: of an image with hardly any noise, less is harmless even if it is more than the noise.
TRIFLE = 0.04
POWER, POWER_STOP = 1.4, 2.0  # power of the residual over the noise's
# Power of the residual in the busiest cells over that in flat ones as bright. It needs no noise
# model; of 40 results of the package's network on white noise none had more than 1.2.
UNEVEN, UNEVEN_STOP = 1.4, 2.0
LITTLE = 0.25  # the same, below which hardly any noise was removed
# How far shared noise widens the means of areas is known roughly only: factor of those limits.
_SLACK = 1.5
# Cells of 4 x 4 pixels. In fewer, the noise of each brightness is not known: of 60 good results of
# 64 x 64 pixels, whose noise followed the light, 14 were warned of, of 24 x 24 every second.
FEW = 512
_DOUBT = 2.0  # factor of the limits where so few are not saturated
ALONG = 0.2  # correlation of neighbouring pixels of the residual, where noise is independent
_ZERO = 0.02  # of the residual's spread: a mean nearer to zero is no measure of light
_WHOLE = 8  # pixels: noise that reaches further fills rows or columns

_Found = Mapping[str, float]


class Judged(NamedTuple):
    """The outcome of one check of a frame; fields as of `guard.GuardFinding`."""

    check: str
    level: int
    measured: float
    limit: float
    text: str


def judge(found: _Found, reach: tuple[int, int]) -> Iterator[Judged]:
    """Yield the outcomes of the checks that apply to a frame.

    Args:
        found: what `guard_measures.measure` returned.
        reach: as of `guard.Guard`.
    """
    if not found["pixels"]:
        return
    slack = _SLACK if any(reach) else 1.0
    yield _mean(found, reach)
    if "power" not in found:  # too small a frame to know its noise
        return
    if "order_growth" in found:
        yield _peaks(found)
    if "totals8" in found:
        yield _totals(found, slack)
    if found["cells"] < FEW:
        if found["saturated"]:  # a few dark things on white: their loss is more than a doubt
            yield _blob(found, _DOUBT * slack)
        return
    if "order_growth" in found:
        yield _dimmed(found)
    yield _structure(found, slack)
    yield _sharpening(found)
    yield _power(found, correlated=any(reach))


def _mean(found, reach):
    """The mean moves by more than 1 % of the signal, and by more than the noise's mean does.

    Care is needed where it moves by 1 % of its grey level, even if the noise would allow it: the
    noise of few photons, or of a small frame, allows much. Not so where zero lies amid the data.
    """
    shared = math.prod(
        2 * side + 1 if side <= _WHOLE else math.sqrt(found["pixels"]) for side in reach
    )
    error = found["noise"] * math.sqrt(shared / max(found["pixels"], 1))
    limit = max(MEAN * found["signal"], ERRORS * error)
    moved = -found["removed"]
    level, whole = (STOP if abs(moved) > limit else FINE), found["signal"]
    if level == FINE and found["grey"] > _ZERO * found["spread"]:
        care = MEAN * found["grey"]
        if abs(moved) > care:
            level, limit, whole = CARE, care, found["grey"]
    share = _share(moved, whole)
    text = f"the mean is {share} {'higher' if moved > 0 else 'lower'} than before"
    return Judged("mean", level, abs(moved), limit, text)


def _peaks(found):
    """The brightest pixels are brighter than the noisy ones.

    Of a result that is less noisy than its input they are dimmer, because the noisy ones are chosen
    for their noise: growth is no chance.
    """
    level = found["noisy_level"]
    growth = max(found["noisy_growth"], found["order_growth"])
    chance = 3 * found["noisy_error"]
    limit = max(PEAKS * level, chance)
    grade = _grade(growth, limit, max(PEAKS_STOP * level, 2 * chance))
    excess = _share(growth - min(chance, growth), level)
    text = f"the peaks are {excess} brighter than the noise allows"
    return Judged("peaks", grade, growth, limit, text)


def _dimmed(found):
    """Pixels whose neighbours are brightest (their own noise had no say) have lost light."""
    level = found["ring_level"]
    chance = 4 * found["ring_error"]
    lost = -found["ring_growth"]
    if found["noisy_lost"] / max(found["noisy_level"], 1e-30) > lost / max(level, 1e-30):
        level, chance, lost = found["noisy_level"], 0.0, found["noisy_lost"]
    limit = max(DIMMED * level, chance)
    grade = _grade(lost, limit, max(DIMMED_STOP * level, 2 * chance))
    text = f"the peaks are {_share(lost - min(chance, lost), level)} dimmer than the noise allows"
    return Judged("dimmed peaks", grade, lost, limit, text)


def _totals(found, slack):
    """Totals of 32 x 32 or 64 x 64 pixels differ by more than the noise's totals."""
    worst = Judged("totals", FINE, 0.0, 1.0, "")
    for side in (8, 16):
        if f"totals{side}" not in found:
            continue
        count = found[f"totals{side}_count"]
        limit = slack * (1.2 + ERRORS / math.sqrt(2 * count))
        moved = found[f"totals{side}_moved"] / max(found["signal"], 1e-30)
        grade = FINE
        if found[f"totals{side}"] > limit:
            grade = _grade(moved, TOTALS, TOTALS_STOP)
        text = (
            f"the totals of {4 * side} x {4 * side} pixels differ by {min(moved, 10):.0%} more "
            "than the noise allows"
        )
        one = Judged("totals", grade, found[f"totals{side}"], limit, text)
        worst = max(worst, one, key=lambda judged: (judged.level, judged.measured))
    return worst


def _structure(found, slack):
    """The residual follows the image, or has a blob that no noise makes: removed or invented."""
    uneven = found["uneven"]
    if uneven > UNEVEN and found["change"] > TRIFLE:
        text = (
            f"what was removed is {uneven:.1f} times as strong where the image has structure as "
            "where it is flat"
        )
        return Judged("structure", _grade(uneven, UNEVEN, UNEVEN_STOP), uneven, UNEVEN, text)
    return _blob(found, slack)


def _blob(found, slack):
    """The mean of 4 to 16 pixels is another than noise makes."""
    strongest, limit = max(found["removed_blob"], found["added_blob"]), slack * BLOB
    if found["added_blob"] == strongest:
        text = "structure was added that the noisy image does not have"
    else:
        text = "structure was removed together with the noise"
    text += f" ({strongest:.0f} times the noise in one place, limit {limit:.1f})"
    grade = _grade(strongest, limit, slack * BLOB_STOP)
    return Judged("structure", grade, strongest, limit, text)


def _sharpening(found):
    """The fine detail is stronger than the noisy image has it, in all or in the busiest cells."""
    gains = {
        name: -found[f"{name}detail"]
        for name in ("", "busy_")
        if found[f"{name}fit"] < -max(ERRORS * found[f"{name}fit_error"], TRIFLE)
    }
    name, gain = max(gains.items(), key=lambda one: one[1], default=("", 0.0))
    kept = 1 + found[f"{name}fit"]  # of the denoised image's detail the noisy one has
    much = f"{1 / kept - 1:.0%}" if kept > 0.25 else "several times"
    text = f"fine detail is {much} stronger than in the noisy image"
    return Judged("sharpening", _grade(gain, SHARPENED, SHARPENED_STOP), gain, SHARPENED, text)


def _power(found, *, correlated):
    """The residual has the power of the noise, and its pixels are independent where noise is."""
    power = max(found["power"], found["busy_power"])
    if power > POWER and found["change"] > TRIFLE:
        grade = _grade(power, POWER, POWER_STOP)
        text = f"what was removed is {power:.1f} times as strong as the noise"
        return Judged("power", grade, power, POWER, text)
    if found["along"] > ALONG and found["change"] > TRIFLE and not correlated:
        text = (
            "what was removed is no independent noise: neighbouring pixels have a correlation of "
            f"{found['along']:.2f}"
        )
        return Judged("power", CARE, found["along"], ALONG, text)
    if power < LITTLE and not correlated:
        text = f"hardly any noise was removed ({power:.0%} of what the image seems to have)"
        return Judged("power", CARE, power, LITTLE, text)
    return Judged("power", FINE, power, POWER, f"the residual has {power:.0%} of the noise's power")


def _grade(value, care, stop):
    return STOP if value > stop else CARE if value > care else FINE


def _share(change, signal):
    """A change in per cent of the signal, or in grey levels where there is hardly any."""
    if signal <= 0 or abs(change) > 10 * signal:
        return f"{abs(change):.3g} grey levels"
    return f"{100 * abs(change) / signal:.2g} %"
