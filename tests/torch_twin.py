"""The published DecoNoising once more, in PyTorch: the oracle of the parity tests. It shares no code with the library.

Written from what is known of the published procedure: its U-Net with its module names, its convolution with the PSF, its loss.
"""

import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)  # the sums come out in one order, and the tests leave the other cores alone


class DownConv(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(outside, outside, kernel_size=3, padding=1)

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class UpConv(nn.Module):
    def __init__(self, inside, outside, merge):
        super().__init__()
        self.merge = merge
        self.upconv = nn.ConvTranspose2d(inside, outside, kernel_size=2, stride=2)
        self.conv1 = nn.Conv2d(2 * outside if merge == "concat" else outside, outside, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(outside, outside, kernel_size=3, padding=1)

    def forward(self, x, skip):
        x = self.upconv(x)
        x = torch.cat((x, skip), dim=1) if self.merge == "concat" else x + skip
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class UNet(nn.Module):
    """(N, 1, H, W) to (N, 1, H, W); H and W multiples of 2^(depth - 1)."""

    def __init__(self, depth=3, filters=64, merge="add"):
        super().__init__()
        widths = [filters * 2**level for level in range(depth)]
        self.down_convs = nn.ModuleList(DownConv(i, o) for i, o in zip([1, *widths], widths, strict=False))
        self.up_convs = nn.ModuleList(UpConv(2 * width, width, merge) for width in widths[-2::-1])
        self.conv_final = nn.Conv2d(widths[0], 1, kernel_size=1)
        self.pool = nn.MaxPool2d(2)
        for parameter in self.parameters():
            nn.init.zeros_(parameter) if parameter.ndim == 1 else nn.init.xavier_normal_(parameter)

    def forward(self, x):
        levels = []
        for i, down in enumerate(self.down_convs):
            x = down(self.pool(x) if i else x)
            levels.append(x)
        for up, skip in zip(self.up_convs, levels[-2::-1], strict=True):
            x = up(x, skip)
        return self.conv_final(x)


def deconvolved(net, images, *, mean, std, output_scale=10.0):
    """The network's output z for images (N, H, W), both in grey levels above the background."""
    output = net((images[:, None] - mean) / std)
    return (output * output_scale * std + mean)[:, 0]


def blurred(image, psf):
    """An image (H, W) convolved with a PSF (h, w) of odd sides, its border reflected."""
    radius_y, radius_x = psf.shape[0] // 2, psf.shape[1] // 2
    padded = F.pad(image[None, None], (radius_x, radius_x, radius_y, radius_y), mode="reflect")
    return F.conv2d(padded, psf.flip(0, 1)[None, None])[0, 0]  # conv2d correlates: the flip makes it a convolution


def loss_terms(noisy, mask, z, s, *, std, positivity, variation):
    """Total, data term, positivity term and total variation of one image (H, W); the last three without their weights."""
    mask = mask.to(z.dtype)
    data = torch.sum(mask * (noisy - s) ** 2) / torch.sum(mask) / std**2
    negative = torch.mean(torch.clamp(-z, min=0)) / std
    rough = (torch.mean(torch.abs(z[1:] - z[:-1])) + torch.mean(torch.abs(z[:, 1:] - z[:, :-1]))) / std
    return data + positivity * negative + variation * rough, data, negative, rough
