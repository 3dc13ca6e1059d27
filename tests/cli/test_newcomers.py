"""The slips of a newcomer: one line each, which says what to write instead."""

import jax
import pytest

SLIPS = {
    "--psf 250nm": "sigma in pixels without a unit.*--psf 1.06",
    "--psf 1,2": "give the width in the plane alone",
    "--axes YX": r"one letter each, such as --axes TYX",
    "--devices 8": r"there are 1; --devices 1 or leaving it out takes all",
    "--crop 0,0": "three whole numbers of pixels, Y,X,SIZE, such as 0,0,256",
}


def one_line(run, folder, *words):
    code, out, err = run(folder, *words)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if "error: " in line]
    return line


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_told_what_to_write_instead(slip, folder, run, small):
    if "devices" in slip and jax.local_device_count() != 1:
        pytest.skip("there are more devices")
    words = ["denoise", "noisy.tif", "-o", "slips", *small, *slip.split()]  # the last --psf counts
    assert_matches(one_line(run, folder, *words), SLIPS[slip])


def assert_matches(line, pattern):
    import re

    assert re.search(pattern, line), line


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["noisy.tif", "-o", "out.tif"], "results go into a folder, such as --output out"),
        (["empty", "-o", "slips"], "holds no image of a known kind.*--recursive"),
        (["https://example.org/a.tif", "-o", "slips"], "address in the web; download the file"),
        (["nothing*.tif", "-o", "slips"], "no file has such a name; check the pattern"),
    ],
)
def test_a_wrong_place_is_told_what_to_write_instead(words, pattern, folder, run):
    (folder / "empty").mkdir(exist_ok=True)
    assert_matches(one_line(run, folder, "denoise", *words, "--instant"), pattern)


def test_a_batch_with_a_failure_prints_a_table_and_exits_with_2(denoised, run):
    (denoised.folder / "broken.tif").write_bytes(b"II*\0 no image")
    words = ["denoise", "noisy.tif", "broken.tif", "-o", "table", "--model", "model"]
    code, out, err = run(denoised.folder, *words, "--no-report")
    assert code == 2
    row = next(line for line in out.splitlines() if "broken.tif" in line)
    assert "failed" in row
    assert "the TIFF holds no images" in row
    assert any("[2/2] broken.tif: failed: " in line for line in err.splitlines())
