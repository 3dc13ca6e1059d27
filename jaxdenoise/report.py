"""Tables and pictures of results. Host side; rich and matplotlib are imported when they are needed."""

import numpy as np


def print_table(title, rows, columns):
    """Print a table to standard output.

    Args:
        title: one line.
        rows: dict of row name to dict of column name to float (None prints as "-").
        columns: names of the columns, in order.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for name, values in rows.items():
        table.add_row(name, *("-" if values[column] is None else f"{values[column]:.{_digits(column)}f}" for column in columns))
    Console().print(table)


def _digits(column):
    return 3 if column == "ssim" else 2


def save_comparison(path, pictures, *, zoom, captions=None):
    """One picture of several results side by side, each with a zoomed inset below it.

    Args:
        path: of the PNG.
        pictures: dict of name to image (H, W), all shown with the grey scale of the last one.
        zoom: (y, x, side) in pixels of the square that is shown enlarged.
        captions: dict of name to a second line of the title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    low, high = np.percentile(list(pictures.values())[-1], (0.5, 99.8))
    y, x, side = zoom
    # Figure without pyplot: no global state, no display.
    figure = Figure(figsize=(2.2 * len(pictures), 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(pictures))
    for column, (name, image) in enumerate(pictures.items()):
        top, bottom = axes[:, column]
        top.imshow(image, cmap="gray", vmin=low, vmax=high)
        top.add_patch(Rectangle((x - 0.5, y - 0.5), side, side, fill=False, edgecolor="yellow"))
        caption = (captions or {}).get(name)
        top.set_title(f"{name}\n{caption}" if caption else name, fontsize=9)
        bottom.imshow(image[y : y + side, x : x + side], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        for axis in (top, bottom):
            axis.set_axis_off()
    figure.savefig(path, dpi=150)


def busiest_window(image, side):
    """(y, x, side) of the square of `side` pixels with the strongest contrast: where there is something to see. `image` is (H, W)."""
    corners = [(y, x) for y in range(0, image.shape[0] - side, 16) for x in range(0, image.shape[1] - side, 16)]
    return (*max(corners, key=lambda corner: image[corner[0] : corner[0] + side, corner[1] : corner[1] + side].std()), side)
