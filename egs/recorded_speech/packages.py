"""What the packages hold, and which of it is left out and held out by its name.

The rules hang on paths alone, so that they choose the same clips everywhere and at all times.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROMPT_LANGUAGES = ("en", "es", "fr", "it", "ru")
SOUND_EFFECTS = {
    "beep": "a beep",
    "beeperr": "a beep",
    "ascending-2tone": "a beep",
    "descending-2tone": "a beep",
    "confbridge-join": "a chime",
    "confbridge-leave": "a chime",
    "tt-monkeys": "monkeys",
}
# Recordings that are in the package a second time, under a name that is held out: found by the
# correlation of every held-out prompt with all others of its language, which is above 0.99 for
# these and below 0.8 for the rest.
TWINS = {
    "en/seconds": "queue-seconds",
    "es/seconds": "queue-seconds",
    "es/please-try-again": "vm-pls-try-again",
    "fr/vm-message": "vm-messages",
    "fr/vm-tempgreeting": "vm-tempgreeting2",
}
JUDGED_DIGITS = "0123"  # first digits of the SHA-1 of a path that is judged, which are a quarter


@dataclass(frozen=True)
class Recording:
    """One file of a package."""

    source: Path
    group: str  # its folder in the corpus: the language, or package and language
    below: PurePosixPath  # its path below the language's folder in the package

    @property
    def target(self) -> str:
        """Its path in the corpus."""
        suffix = ".wav" if self.source.suffix == ".g722" else self.source.suffix
        return f"{self.group}/{self.below.with_suffix(suffix)}"


@dataclass(frozen=True)
class Package:
    """A package, and where its recordings lie."""

    name: str
    folder: str  # of its recordings, below /usr/share; a pattern
    files: str  # below that folder; a pattern
    group: str  # folder in the corpus; "{}" is the first folder below `folder`, a language

    def recordings(self, share: Path) -> list[Recording]:
        """List what is installed below `share`; an empty list if nothing is.

        Debian's alternatives link en_US to en_US_f_Allison: a link is no second folder.
        """
        found = []
        for folder in sorted(path for path in share.glob(self.folder) if not path.is_symlink()):
            for path in sorted(folder.glob(self.files)):
                below = PurePosixPath(path.relative_to(folder).as_posix())
                group = self.group.format(below.parts[0])
                if group != self.group:
                    below = below.relative_to(below.parts[0])
                found.append(Recording(path, group, below))
        return found


PROMPTS = tuple(
    Package(f"asterisk-core-sounds-{name}-g722", f"asterisk/sounds/{name}_*", "**/*.g722", name)
    for name in PROMPT_LANGUAGES
)
# Each line lies in the folder of its language, gods/cs/b1.ogg; other folders hold effects.
DIALOGUE = tuple(
    Package(
        f"fillets-ng-data-{name}",
        "games/fillets-ng/sound",
        f"**/{name}/*.ogg",
        f"fillets-ng-{name}",
    )
    for name in ("cs", "nl")
)
WORDS = (
    Package("ktuberling-data", "ktuberling/sounds", "**/*.ogg", "ktuberling-{}"),
    Package("klettres-data", "klettres", "**/*.ogg", "klettres-{}"),
)


def split_of_prompt(recording: Recording) -> str:
    """Return "train", or where a prompt is held out, "test" or "validation".

    It hangs on the prompt's path below its language's folder alone, `digits/1.g722` say, so that
    figures of different times compare, and a prompt is held out in all languages at once.
    """
    digit = hashlib.sha1(recording.below.as_posix().encode()).hexdigest()[0]
    return "test" if digit in "01" else "validation" if digit == "2" else "train"


def why_no_prompt(recording: Recording) -> str | None:
    """Return why a file of the prompts is left out by its name, or None."""
    if recording.below.parts[0] == "silence":
        return "silence"
    name = recording.below.with_suffix("").as_posix()
    if twin := TWINS.get(f"{recording.group}/{name}"):
        return f"the same recording as the held-out {twin}"
    return SOUND_EFFECTS.get(name)


def why_not_judged(recording: Recording) -> str | None:
    """Return why a clip is no test of languages never trained on, or None."""
    language = recording.group.rpartition("-")[2][:2]  # of klettres-en_GB, en
    if language in PROMPT_LANGUAGES:
        return f"in a language of the prompts, {language}"
    digit = hashlib.sha1(recording.target.encode()).hexdigest()[0]
    return None if digit in JUDGED_DIGITS else "not of the quarter that is taken"
