import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
# The one place of the version; read as text, since building must not need what the package imports.
(VERSION,) = re.findall(
    r'^__version__ = "(.+)"$',
    (HERE / "vocoder/__init__.py").read_text(encoding="utf-8"),
    re.MULTILINE,
)

METRICS = ["pystoi>=0.4", "pesq>=0.0.4"]
ONNX = ["onnx>=1.17", "onnxruntime>=1.20"]
TEST = [
    *METRICS,
    *ONNX,
    "sherpa-onnx>=1.12.26",
    "transformers>=5",
    "playwright>=1.45",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "hypothesis>=6.100",
]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6", "mkdocstrings[python]>=1"]
DEV = [
    *TEST,
    *DOCS,
    "ruff>=0.8",
    "mypy>=1.13",
    "types-PyYAML",
    "types-tqdm",
    "pre-commit>=4",
    "build>=1.2",
]

setup(
    name="vocoder",
    version=VERSION,
    description="Flow-based neural vocoders: from recordings to mels to a trained voice to sound.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    # The project has no public address yet, so that these are the papers that it rests on.
    project_urls={
        "WaveFlow (paper)": "https://arxiv.org/abs/1912.01219",
        "NanoFlow (paper)": "https://arxiv.org/abs/2006.06280",
        "Glow (paper)": "https://arxiv.org/abs/1807.03039",
        "mAR-SCF (paper)": "https://arxiv.org/abs/2004.03891",
    },
    keywords="vocoder, normalizing flow, text-to-speech, mel-spectrogram, WaveFlow, NanoFlow",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
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
    extras_require={"metrics": METRICS, "onnx": ONNX, "test": TEST, "docs": DOCS, "dev": DEV},
    entry_points={"console_scripts": ["vocoder = vocoder.cli:main"]},
)
