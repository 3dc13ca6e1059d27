"""The sections of a report that judge: the verdict, and the verdict on each frame. Host side."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from jaxdenoise.report import page
from jaxdenoise.report.content import Channel
from jaxdenoise.report.findings import (
    CLASSES,
    FINE,
    HEADLINES,
    MARKS,
    NOT_APPLICABLE,
    Finding,
    sentence,
)
from jaxdenoise.report.verdict import TOLD, Verdict, measured

_MOST_CELLS = 600  # of a channel; of more frames several share one


def verdict_section(whole: Verdict) -> str:
    """Return the verdict on a file: what needs attention, and folded what does not."""
    raised = [one for one in whole.findings if one.level > FINE]
    passed = [one for one in whole.findings if one.level == FINE]
    unasked = [one for one in whole.findings if one.level == NOT_APPLICABLE]
    needs = "needs" if len(raised) == 1 else "need"
    count = (
        f"{len(raised)} of {len(raised) + len(passed)} checks {needs} attention"
        if raised
        else f"All {len(passed)} checks passed"
    )
    none = f", {len(unasked)} did not apply" if unasked else ""
    return f"""<section id="verdict" class="{CLASSES[whole.level]}">
<p class="kind">Can I trust this result?</p>
<h2>{whole.headline}</h2>
<p>{count}{none}. They use the images themselves, without a clean one.</p>
{findings(raised)}{_folded("passed", passed)}{_folded("not applicable", unasked)}</section>
"""


def findings(several: Sequence[Finding], kind: str = "") -> str:
    """Return findings as a list. `kind` may be "passed"."""
    items = ""
    for finding in several:
        mark = f'<span class="mark" aria-hidden="true">{MARKS[finding.level]}</span>'
        text = f"<strong>{escape(finding.title)}</strong><p>{escape(finding.text)}</p>"
        items += f'<li class="{CLASSES[finding.level]}">{mark}<div>{text}</div></li>\n'
    return f'<ul class="findings {kind}">\n{items}</ul>\n' if items else ""


def _folded(words, several):
    if not several:
        return ""
    summary = f"{len(several)} check{'s' if len(several) > 1 else ''} {words}"
    return page.folded(summary, findings(several, "passed"))


def frames_section(channels: Sequence[Channel]) -> str:
    """Return the verdict on each frame of each channel; nothing for a single frame."""
    judged = [one for one in channels if one.guard is not None and one.guard.frames]
    if sum(one.guard.frames for one in judged if one.guard) < 2:
        return ""
    several = len(channels) > 1
    html = page.paragraph(
        "All frames were judged by what was changed in them. Those that are shown above were "
        "chosen as the worst, the first and the last, and evenly between them."
    )
    for number, channel in enumerate(channels):
        if channel in judged:
            html += _strip(number, channel, several)
    rows = [row for number, one in enumerate(channels) for row in _rows(number, one, several)]
    if len(rows) > _told(judged):
        heads = ["Frame", "Verdict", "What was found"]
        table = page.table(heads, rows)
        html += page.folded(f"All {len(rows)} findings", table)
    return page.section("frames", "Frame by frame", html)


def _told(judged):
    """How many findings the verdict tells by itself."""
    counts = [Counter(one.check for one in channel.guard.findings) for channel in judged]
    return sum(min(count, TOLD) for checks in counts for count in checks.values())


def _rows(number, channel, several):
    for one in channel.guard.findings if channel.guard else ():
        yield [sentence(one.place)[:-1], HEADLINES[one.level], f"{one.text}{measured(one)}"]


def _strip(number, channel, several):
    """A cell for each frame, or for some that follow each other, with the worst verdict."""
    guard, odd = channel.guard, channel.odd
    count = max(channel.frames or 0, guard.frames)
    bad = [n for n, level in guard.levels.items() if level > FINE]
    told = f"{guard.frames - len(bad)} of {count} frames: no problems found"
    told += f". Not so: {_named(channel, bad)}" if bad else ""
    told += f". Not applicable: {_named(channel, list(odd))}" if odd else ""
    head = f"<h3>{escape(sentence(channel.name)[:-1])}</h3>" if several else ""
    if guard.frames + len(odd) < count:  # of several processes each judges its share
        return f"{head}<p>{escape(told)}. The others were judged elsewhere.</p>\n"
    each = -(-count // _MOST_CELLS)
    shown = {one.number for one in channel.shown}
    cells = ""
    for first in range(0, count, each):
        own = range(first, min(first + each, count))
        level = max(_level(channel, n) for n in own)
        name = _name(channel, first)
        words = name if each == 1 else f"{name} to {_name(channel, own[-1])}"
        verdict = HEADLINES[level].lower() if level >= FINE else f"not applicable, {odd[first]}"
        place = next((n for n in own if n in shown), None)
        cells += _cell(number, place, level, f"{words}: {verdict}")
    return f'{head}<p>{escape(told)}.</p><div class="strip">{cells}</div>\n'


def _level(channel, number):
    return NOT_APPLICABLE if number in channel.odd else channel.guard.levels.get(number, FINE)


def _named(channel, numbers):
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return ", ".join(_name(channel, n) for n in numbers[:8]) + more


def _cell(channel, place, level, words):
    kind, sign = CLASSES[level], "" if level == FINE else MARKS[level]
    if place is None:
        return f'<span class="{kind}" title="{escape(words)}">{sign}</span>'
    show = f'data-channel="{channel}" data-frame="{place}"'
    label = f'title="{escape(words)} (shown)" aria-label="Show {escape(words)}"'
    return f'<button type="button" class="{kind}" {show} {label}>{sign}</button>'


def _name(channel, number):
    names: Sequence[str] | Mapping[int, str] = channel.frame_names
    return names[number] if number < len(names) else f"frame {number + 1}"
