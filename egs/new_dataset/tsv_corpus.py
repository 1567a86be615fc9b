"""A corpus of one's own in one file: each line of clips.tsv is a path, a tab, and train or test."""

from pathlib import Path

from vocoder import VocoderError, register_dataset
from vocoder.data.speech.reader import SPLITS, Clip, Listing, is_safe_id


@register_dataset("tsv")
def read_tsv(source: Path, test_clips: int | None, seed: int) -> Listing:
    """List the clips of a folder that holds clips.tsv; a path there is relative to the folder."""
    if test_clips is not None:
        raise VocoderError(f"{source}: clips.tsv says what the test is; leave out --test-clips")
    clips, problems = {}, []
    lines = (source / "clips.tsv").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        name, _, split = line.partition("\t")
        path, identity = source / name, Path(name).stem
        reason = None
        if split not in SPLITS:
            reason = f"the split is {split!r}; write train or test behind a tab"
        elif not is_safe_id(identity) or identity in clips:
            reason = f"{identity!r} is no fit name for a clip, or is taken by an earlier line"
        elif not path.is_file():
            reason = f"there is no file {name}"
        if reason:
            problems.append((f"clips.tsv line {number}", reason))
        else:
            clips[identity] = Clip(identity, path, split)
    return Listing(tuple(clips.values()), "test: as clips.tsv says", tuple(problems))
