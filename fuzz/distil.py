#!/usr/bin/env python3
"""Chooses the committed corpus of a target: `fuzz/distil.py TARGET FOLDER...`.

From all inputs of the folders and of fuzz/corpus/TARGET it takes, one after another, the one that
reaches most code that none before it reached, and stops at the limits that tests/tests/fuzz_bodies.rs
checks. The target must be built: `cargo fuzz build -s none TARGET`; FUZZ_BINARY names another build.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

MOST_FILES = 100
MOST_BYTES = 300 << 10
LARGEST = 16 << 10


def reached(binary, folders):
    """What each input reaches, as the fuzzer numbers it."""
    with tempfile.TemporaryDirectory() as scratch:
        control = pathlib.Path(scratch, "control")
        target = pathlib.Path(scratch, "chosen")
        target.mkdir()
        command = [binary, "-set_cover_merge=1", "-use_counters=0", f"-merge_control_file={control}", target]
        subprocess.run(command + folders, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines = control.read_text().splitlines()
    count = int(lines[0])
    files, inputs = lines[2 : 2 + count], {}
    for line in lines[2 + count :]:
        kind, index, *features = line.split()
        if kind == "FT":
            inputs[files[int(index)]] = set(features)
    return inputs


def main():
    target, folders = sys.argv[1], sys.argv[2:]
    fuzz = pathlib.Path(__file__).resolve().parent
    built = fuzz / "target/x86_64-unknown-linux-gnu/release" / target
    binary = os.environ.get("FUZZ_BINARY", str(built))
    corpus = fuzz / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    inputs = reached(binary, folders + [str(corpus)])
    inputs = {name: features for name, features in inputs.items() if os.path.getsize(name) <= LARGEST}
    covered, chosen, size = set(), [], 0
    while inputs and len(chosen) < MOST_FILES:
        # The smallest of those that add most.
        best = max(inputs, key=lambda name: (len(inputs[name] - covered), -os.path.getsize(name), name))
        gained = inputs.pop(best) - covered
        if not gained or size + os.path.getsize(best) > MOST_BYTES:
            break
        covered |= gained
        size += os.path.getsize(best)
        chosen.append(pathlib.Path(best).read_bytes())
    shutil.rmtree(corpus)
    corpus.mkdir()
    for data in chosen:
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    print(f"{target}: {len(chosen)} inputs of {size} bytes reach {len(covered)} edges")


main()
