"""Print the set-up commands of README.md, one a line: those of its two blocks marked ``<!-- ci: command -->``."""

import re
from pathlib import Path

text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
commands = re.findall(r"<!-- ci: command -->\n```sh\n(.+?)\n```", text, re.DOTALL)
if len(commands) != 2 or any("\n" in command for command in commands):
    raise SystemExit(f"README.md: expected two blocks of one command, found {commands}")
print("\n".join(commands))
