"""The public names and where each comes from; `lazy_loader` and editors read it."""

__version__: str

from . import workflows as workflows
from .config import TrainConfig as TrainConfig
from .config import UNetConfig as UNetConfig
from .imaging.filters import box3d_filter as box3d_filter
from .imaging.filters import box_filter as box_filter
from .imaging.filters import gaussian_filter as gaussian_filter
from .imaging.filters import median_filter as median_filter
from .imaging.filters import wiener_filter as wiener_filter
from .imaging.levels import quantize as quantize
from .imaging.line_noise import remove_line_noise as remove_line_noise
from .imaging.metrics import mean_over_std as mean_over_std
from .imaging.metrics import psnr as psnr
from .imaging.metrics import si_psnr as si_psnr
from .imaging.metrics import snr_db as snr_db
from .imaging.metrics import ssim as ssim
from .imaging.resolution import fourier_ring_correlation as fourier_ring_correlation
from .io.images import read as read
from .io.images import write as write
from .microscope.bead_volumes import measure_volume_psf as measure_volume_psf
from .microscope.beads import measure_psf as measure_psf
from .microscope.calibration import calibrate as calibrate
from .microscope.noise import gaussian_noise as gaussian_noise
from .microscope.noise import poisson_gaussian_noise as poisson_gaussian_noise
from .microscope.noise_estimation import estimate_noise as estimate_noise
from .microscope.noise_estimation import noise_level as noise_level
from .microscope.optics import confocal_axial_sigma as confocal_axial_sigma
from .microscope.optics import confocal_sigma as confocal_sigma
from .microscope.optics import widefield_axial_sigma as widefield_axial_sigma
from .microscope.optics import widefield_sigma as widefield_sigma
from .microscope.psf import convolve as convolve
from .microscope.psf import gaussian_psf as gaussian_psf
from .microscope.psf_cleaning import clean_psf as clean_psf
from .network.denoiser import Denoiser as Denoiser
from .network.exposure import measure_exposure as measure_exposure
from .prediction.ensemble import denoise_ensemble as denoise_ensemble
from .prediction.forward import Denoised as Denoised
from .prediction.tiles import denoise as denoise
from .prediction.tiles import denoise_image as denoise_image
from .runs.models import load as load
from .runs.models import save as save
from .training.sweep import sweep as sweep
from .workflows.arrays import fit as fit
from .workflows.arrays import instant as instant
