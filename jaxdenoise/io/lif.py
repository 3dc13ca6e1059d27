"""Leica's LIF files, through liffile. Host side; JAX is never imported here."""

from pathlib import Path

from jaxdenoise.io.planes import MakerImage, channels_named, positive, reader_package
from jaxdenoise.io.units import size_along
from jaxdenoise.system.errors import ImageError

_AXES = {"1": "X", "2": "Y", "3": "Z", "4": "T"}  # by their number in the XML


def open_first(path: Path) -> MakerImage:
    """Open the first image of a file."""
    with reader_package(path, "liffile").LifFile(path, squeeze=False) as file:
        images = [image for image in file.images if not image.is_flim]
        if not images:
            raise ImageError(f"{path}: holds no images; export it again")
        image = images[0]
        # Samples may have to be put into order, for which liffile needs an array of its own.
        array = image.asarray(out=None if "S" in image.dims else "memmap")
        kept = [(axis, size) for axis, size in image.sizes.items() if size > 1 or axis in "YX"]
        metadata = {"Name": image.name} | _metadata(image.xml_element)
        pixels = array.reshape([size for _, size in kept])
        return MakerImage(pixels, tuple(axis for axis, _ in kept), metadata, len(images))


def _metadata(xml):
    description = xml.find("./Data/Image/ImageDescription")
    found = {}
    for dimension in description.iterfind("./Dimensions/DimensionDescription"):
        axis = _AXES.get(dimension.get("DimID"))
        unit = size_along(axis, dimension.get("Unit")) if axis else None
        length = float(dimension.get("Length") or 0)  # from the first to the last
        steps = int(dimension.get("NumberOfElements")) - 1
        if unit and steps > 0:
            key = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
            found[key] = abs(length) / steps * unit
    channels = description.findall("./Channels/ChannelDescription")
    channels.sort(key=lambda channel: int(channel.get("BytesInc")))
    names = [
        channel.findtext("./ChannelProperty[Key='DyeName']/Value") or channel.get("LUTName", "")
        for channel in channels
    ]
    return positive(found) | channels_named(name.removeprefix("Leica/") for name in names)
