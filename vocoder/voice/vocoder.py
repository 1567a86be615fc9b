"""What every voice can do: `synthesize`, `stream` and `vocode`."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocoder.device import check_dtype, resolve_device, resolve_dtype
from vocoder.errors import VocoderError
from vocoder.mel.appearance import warn_of_misfit
from vocoder.mel.files import check_mel
from vocoder.mel.presets import MelPreset
from vocoder.mel.spectrogram import MelSpectrogram
from vocoder.seeds import check_seed
from vocoder.voice.batches import Array, Lengths, as_tensor, check_audio, frame_counts
from vocoder.voice.mel_consistency import check_refine, hold_to_mel
from vocoder.voice.memory import telling_of_memory
from vocoder.voice.pitch import F0, check_f0, check_pitch
from vocoder.voice.precision import each_in_own_precision, own_precision
from vocoder.voice.refined_stream import RefinedStream
from vocoder.voice.repitched_stream import RepitchedStream, SpeakingStream
from vocoder.voice.streaming import AudioStream, BlockStream

Sound = TypeVar("Sound", Tensor, Array)  # tensors in, tensors out; arrays in, arrays out


class Vocoder(ABC):
    """A voice that turns mel-spectrograms of one preset into sound.

    Attributes:
        preset: The preset that its mels are made with.
        name: Name of the voice for messages.
        device: Device on which it computes.
        dtype: Type that it computes in; audio is float32 all the same.
        default_refine: How many mel-consistency steps it takes where nothing else is asked for.
        default_stream_refine: The same in a stream, which lags behind by what each reaches ahead.
    """

    default_refine = 0
    default_stream_refine = 0

    def __init__(
        self,
        preset: MelPreset,
        name: str,
        device: str | torch.device | None,
        dtype: str | torch.dtype | None,
    ) -> None:
        self.preset = preset
        self.name = name
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype)
        check_dtype(self.device, self.dtype)
        self._mel = MelSpectrogram(preset)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, preset {self.preset.name}, "
            f"{self.sample_rate} Hz, {str(self.dtype).removeprefix('torch.')} on {self.device})"
        )

    def __call__(self, mel: Any, lengths: Lengths | None = None, **settings: Any) -> Any:
        """Do what `synthesize` does, with the same arguments."""
        return self.synthesize(mel, lengths, **settings)

    @abstractmethod
    def to(self, device: str | torch.device) -> Vocoder:
        """Return the same voice on another device; this one stays where it is.

        Args:
            device: The device to compute on, such as "cpu" or "cuda:1".

        Raises:
            VocoderError: There is no such device.
        """

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio."""
        return self.preset.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples per mel frame."""
        return self.preset.hop_length

    @property
    def n_mels(self) -> int:
        """Bands of a mel."""
        return self.preset.n_mels

    @torch.no_grad()
    def synthesize(
        self,
        mel: Sound,
        lengths: Lengths | None = None,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        refine: int | None = None,
        pitch: float = 1.0,
        f0: F0 | None = None,
    ) -> Sound:
        """Turn mels into audio of exactly N = F · hop_length samples.

        An item of a batch sounds as it would alone: with a seed, its noise depends on nothing but
        the seed and the position of the sample.

        Args:
            mel: (M, F) or a batch (B, M, F), any float type, on any device.
            lengths: Frames (B,) of each item of a padded batch; whatever the padding holds, the
                audio beyond an item's end is zero. None takes all frames.
            temperature: Standard deviation of the noise; 0 gives the mode of the latent, and less
                than 1 is usually cleaner. Griffin-Lim draws none and ignores it.
            seed: Seed of the noise, which gives the same audio again; None draws fresh noise for
                every item.
            refine: Mel-consistency steps: how many times the difference between the mel of the
                sound and the one given is taken out of the sound, in float32. 0 is the sound as
                the voice makes it; None is `default_refine`.
            pitch: Factor of the pitch, for voices that know it: 1.2 is some three semitones higher,
                with the timbre kept.
            f0: The pitch in Hz of each frame, (F,) or (B, F) as the mel is, 0 where there is no
                voice; None is that of the mel. The factor multiplies it too.

        Returns:
            Float32 audio (N,) or (B, N), nominally in [-1, 1] but not clipped: a tensor on the
            voice's device, or an array where `mel` is one.

        Raises:
            VocoderError: A wrong shape or number of bands, no frames, NaN, wrong lengths, a
                negative temperature, seed or number of steps, a pitch that makes no sense or a
                voice that knows none, or not enough memory on the device.
        """
        batch = as_tensor(mel)
        self._check_mel(batch)
        seed = check_settings(temperature, seed)
        steps = self.default_refine if refine is None else check_refine(refine)
        factor = check_pitch(pitch)
        if batch.ndim == 2:
            batch = batch.unsqueeze(0)
        batch = self._as_input(batch)
        n_items, _, n_frames = batch.shape
        frames = frame_counts(lengths, n_items, n_frames)
        track = None if f0 is None else check_f0(f0, (*mel.shape[:-2], mel.shape[-1]), frames)
        frames = frames.to(self.device)
        beyond = torch.arange(n_frames, device=self.device) >= frames[:, None]
        ragged = bool(beyond.any())
        if ragged:
            # What the caller padded with is not known to be harmless; the preset's silence is.
            batch = batch.masked_fill(beyond[:, None], self.preset.silence_floor)
        check_mel(batch)
        for item, n in zip(batch, frames.tolist(), strict=True):
            warn_of_misfit(item[:, :n], self.preset)
        seeds = [secrets.randbits(63) if seed is None else seed for _ in range(n_items)]
        budget = ", a smaller budget (--memory)" if self.device.type == "cpu" else ""
        work = f"{n_items} × {n_frames} frames; use a smaller batch size{budget} or a shorter mel"
        with telling_of_memory(self.device, work), own_precision(self.device):
            own_frames = frames if ragged else None
            told = None
            if factor != 1 or track is not None:
                self.check_control()
                batch, told = self._with_pitch(batch, own_frames, track, factor)
            audio = self._render(batch, own_frames, temperature, seeds, told).float()
            audio = hold_to_mel(audio, batch, self.preset, steps, own_frames)
        if ragged:
            for item, n in zip(audio, frames.tolist(), strict=True):
                item[n * self.hop_length :] = 0
        if mel.ndim == 2:
            audio = audio[0]
        return audio if isinstance(mel, Tensor) else audio.cpu().numpy()

    def check_control(self) -> None:
        """Refuse to speak at another pitch than that of the mel, where the voice cannot.

        Raises:
            VocoderError: It cannot.
        """
        raise VocoderError(
            f"{self.name}: knows no pitch but that of the mel; leave out pitch and f0, or take a "
            "voice that `vocoder info` says can change it"
        )

    def stream(
        self,
        mel_chunks: Iterable[Tensor] | Iterable[Array],
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        refine: int | None = None,
        pitch: float = 1.0,
        block_frames: int | None = None,
        overlap_frames: int | None = None,
    ) -> AudioStream[Tensor] | AudioStream[npt.NDArray[np.float32]]:
        """Turn mels into audio while they arrive.

        The audio is made in blocks on a grid of frames of their own, so it does not depend on the
        pieces that the mel came in, and of exactly hop_length samples for each frame in all. That
        of a causal voice is what `synthesize` makes of the whole. That of any other comes close to
        it, the closer the wider the blocks overlap (docs/streaming.md); an utterance of at most
        block_frames is the same.

        Args:
            mel_chunks: Pieces (M, f) of one mel, of any sizes.
            temperature: Standard deviation of the noise, as `synthesize` takes it.
            seed: Seed of the noise, as `synthesize` takes it.
            refine: Mel-consistency steps, as `synthesize` takes them; the stream lags behind
                by what the steps reach ahead, some n_fft - hop_length samples each. None is
                `default_stream_refine`.
            pitch: Factor of the pitch, as `synthesize` takes it; the stream then lags behind by
                the frames that the pitch of one is read off, too.
            block_frames: Frames that are spoken at once; None is the voice's default.
            overlap_frames: Context of a block on both sides; None is the voice's default. Causal
                voices have none.

        Returns:
            An iterator over float32 audio (n,), tensors or arrays as the pieces are, which tells
            its latency.

        Raises:
            VocoderError: At once, an argument that makes no sense, or a voice that cannot stream;
                later, a piece of a wrong shape or with NaN, or none with any frames. What is good
                before it has been spoken then, and the line names the frame.
        """
        seed = check_settings(temperature, seed)
        seed = secrets.randbits(63) if seed is None else seed
        steps = self.default_stream_refine if refine is None else check_refine(refine)
        if (factor := check_pitch(pitch)) != 1:
            self.check_control()
        started = self._start_stream(temperature, seed, block_frames, overlap_frames)
        refined = RefinedStream(started, self.preset, steps)
        blocks = refined if factor == 1 else self._repitched(refined, factor)
        return AudioStream(self._stream(mel_chunks, blocks), blocks.plan.latency_frames)

    def _stream(self, mel_chunks: Iterable[Any], blocks: SpeakingStream) -> Iterator[Any]:
        work = f"blocks of {blocks.plan.block_frames} frames; use smaller ones (block_frames)"
        n_frames = 0
        as_array = False
        problem: VocoderError | None = None
        pieces = iter(mel_chunks)
        while problem is None:
            try:
                piece = next(pieces)
            except StopIteration:
                break
            except VocoderError as error:
                problem = error
                break
            as_array = isinstance(piece, np.ndarray)
            mel, problem = self._good_frames(piece, n_frames)
            n_frames += mel.shape[1]
            with telling_of_memory(self.device, work):
                for audio in each_in_own_precision(blocks.push(mel), self.device):
                    yield audio.cpu().numpy() if as_array else audio
        with telling_of_memory(self.device, work):
            for audio in each_in_own_precision(blocks.finish(), self.device):
                yield audio.cpu().numpy() if as_array else audio
        if problem is not None:
            raise problem
        if n_frames == 0:
            raise VocoderError("the stream ended without a frame; there is nothing to say")

    def _good_frames(
        self, piece: Tensor | Array, n_before: int
    ) -> tuple[Tensor, VocoderError | None]:
        """Return the frames (M, f) of a piece up to the first bad one, and what is wrong."""
        try:
            mel = as_tensor(piece)
            self._check_mel(mel)
            if mel.ndim != 2:
                raise VocoderError(f"mel has shape {tuple(mel.shape)}; give ({self.n_mels}, f)")
        except VocoderError as error:
            nothing = torch.empty(self.n_mels, 0)
            return self._as_input(nothing), VocoderError(f"frame {n_before}: {error}")
        mel = self._as_input(mel)
        bad = (~mel.isfinite()).any(dim=0).nonzero()
        if not len(bad):
            warn_of_misfit(mel, self.preset, f"frame {n_before}")
            return mel, None
        first = int(bad[0])
        return mel[:, :first], VocoderError(
            f"frame {n_before + first}: NaN or infinite; mend the model that made it"
        )

    @torch.no_grad()
    def mel(self, audio: Sound) -> Sound:
        """Return the mel of audio by the preset of the voice.

        Args:
            audio: Floats (N,) or (B, N) of full scale ±1, at the sample rate of the voice.

        Returns:
            The mel (M, F) or (B, M, F) in float32: a tensor on the voice's device, or an array
            where `audio` is one.

        Raises:
            VocoderError: The audio is not of floats, not of that shape, or too short for a frame.
        """
        check_audio(audio)
        samples = as_tensor(audio)
        mel = self._mel(samples.to(self.device, torch.float32))
        return mel if isinstance(audio, Tensor) else mel.cpu().numpy()

    def vocode(
        self,
        audio: Sound,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        refine: int | None = None,
        pitch: float = 1.0,
    ) -> Sound:
        """Copy synthesis: turn audio into its mel and that into audio of F · hop_length samples.

        Args:
            audio: Audio, as `mel` takes it.
            temperature: Standard deviation of the noise, as `synthesize` takes it.
            seed: Seed of the noise, as `synthesize` takes it.
            refine: Mel-consistency steps, as `synthesize` takes them.
            pitch: Factor of the pitch, as `synthesize` takes it.

        Returns:
            Audio (N,) or (B, N), a tensor or an array as `audio` is.

        Raises:
            VocoderError: What `mel` or `synthesize` refuses.
        """
        return self.synthesize(
            self.mel(audio), temperature=temperature, seed=seed, refine=refine, pitch=pitch
        )

    @abstractmethod
    def _render(
        self,
        mel: Tensor,
        frames: Tensor | None,
        temperature: float,
        seeds: Sequence[int],
        f0: Tensor | None = None,
    ) -> Tensor:
        """Return audio (B, F · hop) of a checked batch (B, M, F), one seed an item.

        `frames` (B,) are the items' own lengths, beyond which anything may stand; None: all are F.
        `f0` (B, F) is the pitch that `_with_pitch` gave; None is that of the mel.
        """

    def _with_pitch(
        self, mel: Tensor, frames: Tensor | None, f0: Tensor | None, factor: float
    ) -> tuple[Tensor, Tensor]:
        """Return mels that are spoken at another pitch and that pitch; see `with_pitch`.

        Asked only of a voice that `check_control` lets speak at another one.
        """
        raise NotImplementedError

    def _repitched(self, blocks: RefinedStream, factor: float) -> RepitchedStream:
        """Return a stream at another pitch, of a voice that `check_control` lets have one."""
        raise NotImplementedError

    @abstractmethod
    def _start_stream(
        self,
        temperature: float,
        seed: int,
        block_frames: int | None,
        overlap_frames: int | None,
    ) -> BlockStream:
        """Return what makes the audio of one stream, or raise a `VocoderError`."""

    def _as_input(self, mel: Tensor) -> Tensor:
        return mel.to(self.device, torch.promote_types(self.dtype, torch.float32))

    def _check_mel(self, mel: Tensor) -> None:
        if mel.ndim not in (2, 3) or not mel.is_floating_point():
            raise VocoderError(
                f"mel has shape {tuple(mel.shape)} of {mel.dtype}; "
                f"give floats ({self.n_mels}, F) or (B, {self.n_mels}, F)"
            )
        if mel.shape[-2] != self.n_mels:
            turned = "; turn it round: bands first" if mel.shape[-1] == self.n_mels else ""
            raise VocoderError(
                f"mel has {mel.shape[-2]} bands, this voice was trained with {self.n_mels} "
                f"(preset {self.preset.name}){turned}"
            )


def check_settings(temperature: float, seed: int | None = None) -> int | None:
    """Return the seed, or raise a `VocoderError` for what `Vocoder.synthesize` refuses."""
    if not 0 <= temperature < float("inf"):
        raise VocoderError(f"temperature {temperature:g}: must be 0 or more; 1 is as trained")
    return None if seed is None else check_seed(seed)
