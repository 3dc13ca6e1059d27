"""DecoNoising in PyTorch, twice: as published, and tuned for speed.

It shares no code with the library. It is written from what is known of the published procedure: its
U-Net with its module names, its blind spots, its convolution with the PSF, its loss, its order of
work. `speed_vs_pytorch.py` races both; the parity tests use them as their oracle.
"""

import contextlib
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

VIRTUAL_BATCH = 20  # patches whose gradients are summed before a step, as published
DENSITY = 1 / 32  # blind spots a pixel, rounded as published
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


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
        self.conv1 = nn.Conv2d(
            2 * outside if merge == "concat" else outside, outside, kernel_size=3, padding=1
        )
        self.conv2 = nn.Conv2d(outside, outside, kernel_size=3, padding=1)

    def forward(self, x, skip):
        x = self.upconv(x)
        x = torch.cat((x, skip), dim=1) if self.merge == "concat" else x + skip
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class UNet(nn.Module):
    """The U-Net, (N, 1, H, W) to (N, 1, H, W); H and W are multiples of 2^(depth - 1)."""

    def __init__(self, depth=3, filters=64, merge="add"):
        super().__init__()
        widths = [filters * 2**level for level in range(depth)]
        self.down_convs = nn.ModuleList(
            DownConv(i, o) for i, o in zip([1, *widths], widths, strict=False)
        )
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
    """Return the network's output z for images (N, H, W), both in grey levels above background."""
    output = net((images[:, None] - mean) / std)
    return (output * output_scale * std + mean)[:, 0]


def blurred(image, psf):
    """Convolve an image (H, W) with a PSF (h, w) of odd sides; the border is reflected."""
    radius_y, radius_x = psf.shape[0] // 2, psf.shape[1] // 2
    padded = F.pad(image[None, None], (radius_x, radius_x, radius_y, radius_y), mode="reflect")
    # conv2d correlates: the flip makes it a convolution.
    return F.conv2d(padded, psf.flip(0, 1)[None, None])[0, 0]


def loss_terms(noisy, mask, z, s, *, std, positivity, variation):
    """Return total, data term, positivity term and total variation of one image (H, W).

    The last three are without their weights.
    """
    mask = mask.to(z.dtype)
    data = torch.sum(mask * (noisy - s) ** 2) / torch.sum(mask) / std**2
    negative = torch.mean(torch.clamp(-z, min=0)) / std
    rough = (
        torch.mean(torch.abs(z[1:] - z[:-1])) + torch.mean(torch.abs(z[:, 1:] - z[:, :-1]))
    ) / std
    return data + positivity * negative + variation * rough, data, negative, rough


class Published:
    """The published procedure: one patch at a time, a dense PSF, on one device.

    Python loops on the host choose and replace the blind spots.

    Args:
        frames: (N, H, W) float32 array above the background, in grey levels.
        psf: (h, w) array of odd sides.
        patch_size: side of a training patch.
        device: of PyTorch.
        seed: of weights, patches and blind spots.
        network: `UNet`'s arguments.
    """

    def __init__(self, frames, psf, *, patch_size=100, device="cpu", seed=0, **network):
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.frames, self.patch_size, self.device = frames, patch_size, device
        self.mean, self.std = float(frames.mean()), float(frames.std())
        self.psf = torch.as_tensor(np.array(psf), device=device)
        self.net = UNet(**network).to(device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def images(self, visible):
        """Return the deconvolved and denoised images of (N, H, W)."""
        z = deconvolved(self.net, visible, mean=self.mean, std=self.std)
        return z, torch.stack([blurred(image, self.psf) for image in z])

    def loss(self, noisy, visible, scored):
        """Return the mean loss of a batch of patches."""
        z, s = self.images(visible)
        losses = [
            loss_terms(*images, std=self.std, positivity=1.0, variation=0.0)[0]
            for images in zip(noisy, scored, z, s, strict=True)
        ]
        return torch.stack(losses).mean()

    def patch(self, frames):
        """Draw a patch, turned at random; return (1, P, P) tensors: noisy, visible, scored.

        Visible is the patch with its blind spots replaced; scored says where those are.
        """
        size, (count, height, width) = self.patch_size, frames.shape
        n, y, x = (self.rng.integers(room) for room in (count, height - size + 1, width - size + 1))
        noisy = np.rot90(frames[n, y : y + size, x : x + size], self.rng.integers(4))
        noisy = np.ascontiguousarray(np.flip(noisy) if self.rng.random() < 0.5 else noisy)
        visible, scored = noisy.copy(), np.zeros(noisy.shape, bool)
        box = round((1 / DENSITY) ** 0.5)
        for top in range(0, size, box):
            for left in range(0, size, box):
                y, x = top + self.rng.integers(box), left + self.rng.integers(box)
                if y >= size or x >= size:
                    continue
                others = noisy[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].ravel()
                visible[y, x], scored[y, x] = others[self.rng.integers(others.size)], True
        return tuple(
            torch.from_numpy(array)[None].to(self.device) for array in (noisy, visible, scored)
        )

    def step(self):
        """Take one step of Adam on a virtual batch; return its mean loss."""
        self.optimizer.zero_grad()
        total = 0.0
        for _ in range(VIRTUAL_BATCH):
            loss = self.loss(*self.patch(self.frames))
            loss.backward()
            total += float(loss.detach())
        self.optimizer.step()
        return total / VIRTUAL_BATCH

    def validate(self, frames):
        """Return the mean loss on as many patches of other frames."""
        with torch.no_grad():
            return float(
                np.mean([float(self.loss(*self.patch(frames))) for _ in range(VIRTUAL_BATCH)])
            )

    def predict(self, image):
        """Denoise an (H, W) array by tiles of 256 with 48 pixels of overlap, as published."""
        with torch.no_grad():
            return by_tiles(
                lambda part: self.images(part)[1], image, tile=256, overlap=48, device=self.device
            )


class Tuned:
    """The same network, loss and data as fast as PyTorch does it.

    Channels last, real batches, everything on the device, separable PSF.

    Args:
        frames: (N, H, W) float32 array above the background, in grey levels.
        psf: (k,) array, the PSF's profile along both axes.
        patch_size: side of a training patch.
        batch_size: patches a step.
        bfloat16: whether the network runs under autocast.
        compiled: whether `torch.compile` compiles it.
        device: of PyTorch.
        seed: of weights, patches and blind spots.
        network: `UNet`'s arguments.
    """

    def __init__(
        self,
        frames,
        psf,
        *,
        patch_size=100,
        batch_size=20,
        bfloat16=True,
        compiled=True,
        device="cpu",
        seed=0,
        **network,
    ):
        torch.manual_seed(seed)
        self.patch_size, self.batch_size, self.bfloat16, self.device = (
            patch_size,
            batch_size,
            bfloat16,
            device,
        )
        self.frames = torch.as_tensor(frames, device=device)
        self.mean, self.std = float(frames.mean()), float(frames.std())
        self.profile = torch.as_tensor(np.array(psf), device=device)
        self.net = UNet(**network).to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3, fused=True)
        compiler = partial(torch.compile, dynamic=False) if compiled else lambda function: function
        self.loss, self.images, self.batch = (
            compiler(self.loss),
            compiler(self.images),
            compiler(self.batch),
        )

    def images(self, visible):
        """Return the deconvolved and denoised images of (N, H, W)."""
        lower = (
            torch.autocast(self.device, torch.bfloat16)
            if self.bfloat16
            else contextlib.nullcontext()
        )
        with lower:
            output = self.net(
                ((visible - self.mean) / self.std)[:, None].contiguous(
                    memory_format=torch.channels_last
                )
            )
        z = output[:, 0].float() * (10 * self.std) + self.mean
        radius = len(self.profile) // 2
        padded = F.pad(z[:, None], (radius,) * 4, mode="reflect")
        s = F.conv2d(
            F.conv2d(padded, self.profile[None, None, :, None]), self.profile[None, None, None]
        )
        return z, s[:, 0]

    def loss(self, noisy, visible, scored):
        """Return the mean loss of a batch of patches."""
        z, s = self.images(visible)
        count = scored.sum(dim=(1, 2))
        data = (
            torch.where(scored, (noisy - s) ** 2, 0).sum(dim=(1, 2)) / count
        ).mean() / self.std**2
        return data + torch.clamp(-z, min=0).mean() / self.std

    def batch(self, frames):
        """Draw patches, turned at random; return (B, P, P) tensors: noisy, visible, scored.

        Visible are the patches with their blind spots replaced; scored says where those are.
        """
        size, count, device = self.patch_size, self.batch_size, self.device

        def below(limits):
            return torch.stack([torch.randint(limit, (count,), device=device) for limit in limits])

        steps = torch.arange(size, device=device)
        n, y, x = below((frames.shape[0], frames.shape[1] - size + 1, frames.shape[2] - size + 1))
        flip_y, flip_x, transpose = (turn[:, None, None] for turn in below((2, 2, 2)))
        rows, columns = (
            steps[None, :, None].expand(count, size, size),
            steps[None, None, :].expand(count, size, size),
        )
        rows, columns = (
            torch.where(transpose == 1, columns, rows),
            torch.where(transpose == 1, rows, columns),
        )
        rows, columns = (
            torch.where(flip_y == 1, size - 1 - rows, rows),
            torch.where(flip_x == 1, size - 1 - columns, columns),
        )
        noisy = frames[n[:, None, None], rows + y[:, None, None], columns + x[:, None, None]]
        box = round((1 / DENSITY) ** 0.5)
        cells = -(-size // box)
        chosen = torch.randint(box * box, (count, cells, cells), device=device)
        place = (steps[:, None] % box) * box + steps[None] % box
        scored = chosen[:, steps[:, None] // box, steps[None] // box] == place
        offsets = torch.randint(24, (count, size, size), device=device)
        offsets = offsets + (offsets >= 12)  # of a 5x5 neighbourhood without its centre
        others_y = (steps[:, None] + offsets // 5 - 2).clamp(0, size - 1)
        others_x = (steps[None] + offsets % 5 - 2).clamp(0, size - 1)
        others = noisy[torch.arange(count, device=device)[:, None, None], others_y, others_x]
        return noisy, torch.where(scored, others, noisy), scored

    def step(self):
        """Take one step of Adam on a batch; return its loss, on the device."""
        self.optimizer.zero_grad()
        loss = self.loss(*self.batch(self.frames))
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def validate(self, frames):
        """Return the loss on a batch of other frames."""
        with torch.no_grad():
            return float(self.loss(*self.batch(torch.as_tensor(frames, device=self.device))))

    def predict(self, image):
        """Denoise an (H, W) array by tiles of at most 1,024; sides: multiples of 2^(depth - 1)."""
        with torch.inference_mode():
            return by_tiles(
                lambda part: self.images(part)[1],
                image,
                tile=min(1024, *image.shape),
                overlap=48,
                device=self.device,
            )


def by_tiles(denoised, image, *, tile, overlap, device):
    """Denoise an (H, W) array tile by tile.

    Each pixel is taken from a tile in which it is ``overlap`` pixels from the tile's border.
    """
    result = np.empty_like(image)
    for top, rows in spans(image.shape[0], tile, overlap):
        for left, columns in spans(image.shape[1], tile, overlap):
            part = torch.from_numpy(image[top : top + tile, left : left + tile])[None].to(device)
            shown = denoised(part)[0].cpu().numpy()
            result[rows, columns] = shown[
                rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
            ]
    return result


def spans(length, tile, overlap):
    """Yield (start of the tile, slice of what is taken from it) along one axis."""
    at = 0
    while at < length:
        start = max(0, min(at - overlap if at else 0, length - tile))
        end = length if start + tile >= length else start + tile - overlap
        yield start, slice(at, end)
        at = end
