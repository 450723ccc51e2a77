"""Append one line to bench/history/NAME.jsonl: ``record.py PATH/TO/dynq-bench NAME`` or ``record.py FILE.json NAME``.

The line holds the commit, the CPU and what ``dynq-bench linear`` measured for each instruction set and number of
threads, or what a ``dynq bench ... --json`` wrote into the file.
"""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import dynq
from dynq.bench.machine import cpu_facts

HISTORY = Path(__file__).parent / "history"


def measure(program: str, isa: str, threads: int) -> list[dict[str, object]]:
    arguments = [program, "linear", "--isa", isa, "--threads", str(threads), "--json"]
    if isa == "scalar":
        arguments += ["--rounds", "3"]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    records = [json.loads(line) for line in output.splitlines()]
    return [record for record in records if record.pop("record") == "linear"]


def measure_all(program: str) -> dict[str, object]:
    results = [
        result
        for isa in dynq.isa.supported()
        for threads in sorted({1, dynq.get_num_threads()})
        for result in measure(program, isa, threads)
    ]
    return {"results": results}


def read(source: str) -> dict[str, object]:
    four_digits = {"parse_float": lambda text: float(f"{float(text):.4g}")}
    content: dict[str, object] = json.loads(Path(source).read_text(encoding="utf-8"), **four_digits)
    return content


def main(source: str, name: str) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True, text=True)
    cpu = cpu_facts()
    line = {
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "cpu": cpu.get("brand_raw"),
        "family_model_stepping": [cpu.get("family"), cpu.get("model"), cpu.get("stepping")],
        **(read(source) if source.endswith(".json") else measure_all(source)),
    }
    with (HISTORY / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
