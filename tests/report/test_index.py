"""The index of a batch: rows, links that survive a move, and hostile names."""

import numpy as np

from jaxdenoise.report.findings import CARE, FINE
from jaxdenoise.report.index import FAILED, IndexRow, read_row, summary, thumbnail, write_index


def test_an_index_lists_verdicts_times_and_thumbnails(tmp_path):
    small = thumbnail(np.random.default_rng(0).normal(size=(300, 200)))
    assert small.shape == (75, 50)
    (tmp_path / "sub").mkdir()
    rows = [
        IndexRow(
            "a <b>.tif", tmp_path / "sub" / "a #1.html", FINE, "none", 2.5, "9 x 9", small, small
        ),
        IndexRow("c.tif", tmp_path / "c.html", CARE, "use with care: the mean moved", 1.5),
        IndexRow("broken.tif", None, FAILED, "broken.tif: not a TIFF file"),
    ]
    path = write_index(tmp_path / "index.html", rows)
    html = path.read_text(encoding="utf-8")
    assert "a &lt;b&gt;.tif" in html
    assert "<b>" not in html
    assert 'href="sub/a%20%231.html"' in html
    assert html.count('class="thumbnail"') == 2
    assert "3 files · 1 no problems found · 1 use with care · 1 failed · 4 seconds" in html
    assert "broken.tif: not a TIFF file" in html
    assert str(tmp_path) not in html


def test_a_thumbnail_holds_means_and_keeps_the_given_grey_scale():
    image = np.kron(np.array([[0.0, 100.0], [50.0, 200.0]]), np.ones((96, 96)))
    np.testing.assert_array_equal(
        thumbnail(image, (0, 100))[[0, 0, -1, -1], [0, -1, 0, -1]], [0, 255, 128, 255]
    )
    assert thumbnail(np.ones((5, 7))).shape == (5, 7)
    assert thumbnail(np.ones((1000, 3)), (0, 1)).shape == (90, 1)


def test_names_of_other_folders_are_linked(tmp_path):
    (tmp_path / "reports").mkdir()
    row = IndexRow("x.tif", tmp_path / "x.html", FINE, "")
    text = write_index(tmp_path / "reports" / "index.html", [row]).read_text(encoding="utf-8")
    assert 'href="../x.html"' in text


def test_a_row_is_read_back_from_its_report(tmp_path):
    small = thumbnail(np.random.default_rng(0).normal(size=(30, 20)))
    row = IndexRow("a.tif", None, CARE, "use with care: </script>", 2.5, "9 x 9", small, None)
    page = tmp_path / "a.html"
    page.write_text(f"<p>...</p>{summary(row)}<p>...</p>", encoding="utf-8")
    found = read_row(page, "sub/a.tif")
    assert found[:6] == ("sub/a.tif", page, CARE, "use with care: </script>", 2.5, "9 x 9")
    np.testing.assert_array_equal(found.before, small)
    assert found.after is None
    page.write_text("<p>a page of something else</p>")
    assert read_row(page, "a.tif") is None
