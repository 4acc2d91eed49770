#!/usr/bin/env python3
"""Runs a command in a pseudo-terminal and writes its screen as an SVG picture.

    docs/terminal_svg.py docs/demo.svg target/release/exo-node demo

Python 3 only, nothing else. Colours are those that the command printed.
"""

import html
import os
import pty
import re
import sys

COLUMNS = 96
CHAR, LINE, PAD, BAR = 8.4, 19, 22, 34
PALETTE = {
    None: "#c9d1d9", "30": "#484f58", "31": "#ff7b72", "32": "#7ee787", "33": "#e3b341",
    "34": "#79c0ff", "35": "#d2a8ff", "36": "#56d4dd", "37": "#f0f6fc", "90": "#8b949e",
}


def run(command):
    """The bytes that the command prints to a terminal."""
    output = bytearray()

    def read(fd):
        data = os.read(fd, 65536)
        output.extend(data)
        return data

    os.environ.update(COLUMNS=str(COLUMNS), TERM="xterm-256color")
    status = pty.spawn(command, read)
    if status:
        sys.exit(f"{command[0]} ended with status {status}")
    return output.decode()


def spans(line):
    """Splits a line into (text, colour, bold, dim)."""
    colour, bold, dim = None, False, False
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if not part.startswith("\x1b["):
            part = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part)
            if part:
                yield part, colour, bold, dim
            continue
        for code in (part[2:-1] or "0").split(";"):
            if code == "0":
                colour, bold, dim = None, False, False
            elif code == "1":
                bold = True
            elif code == "2":
                dim = True
            elif code == "22":
                bold = dim = False
            elif code == "39":
                colour = None
            elif code in PALETTE:
                colour = code


def screen(text):
    """The lines that are left on the screen: a carriage return begins a line anew."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        lines.append(line.rsplit("\r", 1)[-1])
    while lines and not lines[-1].strip():
        lines.pop()
    while lines and not lines[0].strip():
        lines.pop(0)
    return lines


def picture(title, lines):
    width = 2 * PAD + COLUMNS * CHAR
    height = BAR + 2 * PAD + len(lines) * LINE - 8
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-size="14" '
        'font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,\'DejaVu Sans Mono\',monospace">',
        f'<rect width="100%" height="100%" rx="10" fill="#0d1117"/>',
    ]
    for at, colour in enumerate(("#ff5f56", "#ffbd2e", "#27c93f")):
        out.append(f'<circle cx="{22 + 20 * at}" cy="19" r="6" fill="{colour}"/>')
    out.append(
        f'<text x="50%" y="24" text-anchor="middle" fill="#8b949e">{html.escape(title)}</text>'
    )
    for row, line in enumerate(lines):
        y = BAR + PAD + row * LINE
        column = 0
        for text, colour, bold, dim in spans(line):
            if text.strip():
                style = f'fill="{PALETTE[colour]}"'
                style += ' font-weight="bold"' if bold else ""
                style += ' opacity="0.65"' if dim else ""
                out.append(
                    f'<text xml:space="preserve" x="{PAD + column * CHAR:.1f}" y="{y}" '
                    f'textLength="{len(text) * CHAR:.1f}" {style}>{html.escape(text)}</text>'
                )
            column += len(text)
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    target, *command = sys.argv[1:]
    text = run(command)
    title = " ".join([os.path.basename(command[0]), *command[1:]])
    with open(target, "w", encoding="utf-8") as file:
        file.write(picture(title, screen(text)))


if __name__ == "__main__":
    main()
