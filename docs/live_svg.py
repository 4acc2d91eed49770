#!/usr/bin/env python3
"""Writes the live view of a ring of three nodes, in the middle of an answer, as an SVG picture.

    docs/live_svg.py docs/live.svg target/release/exo-node [FIRST_PORT]

The nodes are real and run on this machine; the first one has a pseudo-terminal, whose screen is the
picture. Python 3 only, nothing else.
"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request

from terminal_svg import COLUMNS, picture

ROWS = 14
QUESTION = {
    "messages": [{"role": "user", "content": "Tell me a long story about a fox and the moon."}],
    "max_tokens": 400, "stream": True,
}


class Screen:
    """As much of a terminal as the view asks for: places, colours, and clearing."""

    def __init__(self):
        self.rest = ""
        self.clear()
        self.style = ""

    def clear(self):
        self.cells = [[(" ", "")] * COLUMNS for _ in range(ROWS)]
        self.row = self.column = 0

    def feed(self, data):
        text = self.rest + data
        # What is cut off in the middle of a sequence waits for the rest.
        cut = re.search(r"\x1b(\[[0-9;?]*)?$", text)
        self.rest = text[cut.start():] if cut else ""
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b.|[^\x1b]", text[: cut and cut.start()], re.S):
            if part.startswith("\x1b["):
                self.obey(part[2:-1], part[-1])
            elif part == "\r":
                self.column = 0
            elif part == "\n":
                self.row = min(self.row + 1, ROWS - 1)
            elif part.isprintable() and self.column < COLUMNS:
                self.cells[self.row][self.column] = (part, self.style)
                self.column += 1

    def obey(self, words, letter):
        numbers = [int(word) for word in words.split(";") if word.isdigit()]
        if letter == "H":
            row, column = (numbers + [1, 1])[:2] if len(numbers) != 1 else (numbers[0], 1)
            self.row, self.column = min(row, ROWS) - 1, min(column, COLUMNS) - 1
        elif letter == "J" or words == "?1049":
            # The view begins on a screen of its own.
            self.clear()
        elif letter == "m":
            # The first sixteen of the colours with numbers are those with names.
            name = lambda m: str(30 + int(m[1]) if int(m[1]) < 8 else 82 + int(m[1]))
            code = re.sub(r"38;5;(\d+)", name, words)
            self.style = "" if code in ("", "0") else self.style + f"\x1b[{code}m"

    def lines(self):
        """The lines with their colours, without the empty ones at the end."""
        lines = []
        for row in self.cells:
            line, before = "", ""
            for letter, style in row:
                if style != before:
                    line += "\x1b[0m" + style
                    before = style
                line += letter
            lines.append(line)
        while lines and not re.sub(r"\x1b\[[0-9;]*m", "", lines[-1]).strip():
            lines.pop()
        return lines


def main():
    target, binary, first = (sys.argv[1:] + ["22400"])[:3]
    first = int(first)
    with tempfile.TemporaryDirectory() as home:
        file = os.path.join(home, "peers.json")
        peers = {f"node-{n}": {"address": f"127.0.0.1:{first + n}"} for n in (1, 2, 3)}
        with open(file, "w", encoding="utf-8") as peers_file:
            json.dump({"peers": peers}, peers_file)

        def words(number):
            return [
                binary, "--node-id", f"node-{number}", "--node-host", "127.0.0.1",
                "--node-port", str(first + number), "--chatgpt-api-host", "127.0.0.1",
                "--chatgpt-api-port", str(first + 10 + number), "--discovery-config-path", file,
                "--placement", "memory", "--node-memory", str(2048 * (4 - number)), "--threads", "1",
                "--runtime", ("smol", "std")[number % 2], "--drain", "0",
            ]

        def environment(number):
            return dict(os.environ, EXO_HOME=os.path.join(home, str(number)), TERM="xterm-256color")

        others = [
            subprocess.Popen(words(n), env=environment(n), stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
            for n in (2, 3)
        ]
        process, terminal = pty.fork()
        if process == 0:
            os.execve(binary, words(1), environment(1))
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        screen = Screen()

        def watch(seconds, until=lambda text: False):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if select.select([terminal], [], [], 0.05)[0]:
                    screen.feed(os.read(terminal, 65536).decode("utf-8", "replace"))
                if until("".join(letter for row in screen.cells for letter, _ in row)):
                    return True
            return False

        try:
            # All links are measured by then.
            if not watch(60, lambda text: text.count("bit/s") >= 2):
                watch(1)
            body = json.dumps(QUESTION).encode()
            url = f"http://127.0.0.1:{first + 11}/v1/chat/completions"
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as answer:
                os.set_blocking(answer.fileno(), False)
                if not watch(30, lambda text: re.search(r"\d{3,} tokens, \d+", text)):
                    sys.exit("nothing was seen of the answer:\n" + "\n".join(screen.lines()))
                lines = screen.lines()
            with open(target, "w", encoding="utf-8") as out:
                out.write(picture("exo-node", lines))
        finally:
            os.kill(process, signal.SIGINT)
            for other in others:
                other.terminate()
            for other in others:
                other.wait()
            os.waitpid(process, 0)


if __name__ == "__main__":
    main()
