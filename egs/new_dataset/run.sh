#!/bin/sh
# A corpus of a form that nobody knows, by the ordinary commands: sh egs/new_dataset/run.sh
# More words, such as -o train.steps=1000, go to the training.
set -eu
source=data/new_dataset_source
data=data/new_dataset

# 1. A folder in that form: the shipped recordings, with clips.tsv in place of metadata.csv.
mkdir -p $source
cp egs/quickstart/corpus/wavs/*.flac $source
for clip in "$source"/*.flac; do
    case $clip in *5.flac) split=test ;; *) split=train ;; esac
    printf '%s\t%s\n' "${clip##*/}" $split
done > $source/clips.tsv

# 2. The reader in tsv_corpus.py makes a corpus of it.
vocoder preprocess tsv --plugin egs/new_dataset/tsv_corpus.py --source $source --out $data

# 3. From here on it is a corpus like any other; nothing needs the reader any more.
vocoder train tiny/nanoflow --data $data --run-dir runs/new_dataset "$@"
vocoder synthesize $data -o out/new_dataset --voice runs/new_dataset
vocoder compare runs/new_dataset griffin-lim --data $data
