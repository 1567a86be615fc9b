"""The package's metadata; the settings of its tools are in pyproject.toml.

The version is written once, in `vocoder/__init__.py`, and read from its text: importing the package
would need what it depends on.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """Return the version that `vocoder/__init__.py` states."""
    text = (ROOT / "vocoder" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)[0]


PITCH = ["praat-parselmouth>=0.4.5"]
METRICS = [
    *PITCH,
    "pystoi>=0.4",
    "pesq>=0.0.4",
    # speechmos does not say which packages it imports: these two, librosa and tqdm.
    "speechmos>=0.0.1.1",
    "onnxruntime>=1.20",
    "requests>=2.31",
]
ONNX = ["onnx>=1.17", "onnxruntime>=1.20"]
TEST = [
    *METRICS,
    *ONNX,
    "sherpa-onnx>=1.12.26",
    "transformers>=5",
    "playwright>=1.45",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "h5py>=3.11",
]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.7", "mkdocstrings[python]>=1"]
DEV = [*TEST, *DOCS, "pre-commit>=4", "ruff>=0.8", "mypy>=1.13", "types-PyYAML", "types-tqdm"]

setup(
    name="vocoder",
    version=version(),
    description="Flow-based neural vocoders: from recordings to mels to a trained voice to sound.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["vocoder", "text-to-speech", "normalizing flow", "WaveFlow", "NanoFlow"],
    # The project has no address of its own yet, so that these are the papers that it implements.
    project_urls={
        "WaveFlow (paper)": "https://arxiv.org/abs/1912.01219",
        "NanoFlow (paper)": "https://arxiv.org/abs/2006.06280",
        "Glow (paper)": "https://arxiv.org/abs/1807.03039",
        "mAR-SCF (paper)": "https://arxiv.org/abs/2004.03891",
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=[*find_packages(include=["vocoder", "vocoder.*"]), "vocoder.recipes"],
    # A recipe is data found by name; living inside the package keeps site-packages clean.
    package_dir={"vocoder.recipes": "recipes"},
    package_data={
        "vocoder": ["py.typed", "pretrained/*", "judging/report/*.css", "judging/report/*.js"],
        "vocoder.recipes": ["README.md", "*/*.yaml"],
    },
    install_requires=[
        # torchaudio 2.11 is the last release and refuses the CUDA version of torch 2.15.
        "torch>=2.11,<2.15",
        "torchaudio>=2.11,<2.12",
        "numpy>=1.26",
        "librosa>=0.10.2",
        "soundfile>=0.12",
        "click>=8.1",
        "tensorboard>=2.16",
        "pyyaml>=6",
        "safetensors>=0.4.5",
        "tqdm>=4.66",
    ],
    extras_require={
        "metrics": METRICS,
        "pitch": PITCH,
        "onnx": ONNX,
        "test": TEST,
        "docs": DOCS,
        "dev": DEV,
    },
    entry_points={"console_scripts": ["vocoder = vocoder.__main__:main"]},
)
