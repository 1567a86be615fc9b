#!/bin/sh
# The papers' comparison at the size of a CPU: sh egs/family/run.sh [KEY=VALUE ...]
# Needs data/prompts-16k of egs/recorded_speech; DATA and OUT name other places, and CLIPS how many
# test clips are scored. Settings go to every training: train.steps=20 shows that all of it works.
set -eu
data=${DATA:-data/prompts-16k}
out=${OUT:-runs/family}
for setting in "$@"; do shift; set -- "$@" -o "$setting"; done

# 1. Train each for the same number of samples seen. The same command goes on with what was stopped.
voices=
for model in waveglow flowavenet waveflow nanoflow; do
    for voice in "$model" "$model-lp"; do
        vocoder train "recorded/compare-$voice" --data "$data" --run-dir "$out/$voice" --resume "$@"
        voices="$voices $out/$voice"
    done
done

# 2. Nats per sample, DNSMOS and the rest, with the paired difference to the first and its interval,
#    and a page to look at and listen to.
vocoder compare $voices --data "$data" --clips "${CLIPS:-64}" --json \
    --report "$out/compare.html" >"$out/compare.json"
