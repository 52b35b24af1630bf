"""The bench runs from end to end and measures what it says; no time is ever judged here."""
import json
import os
import subprocess
import sys

import pytest

from pgfresh_proc import binary

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench")
RUN = os.path.join(BENCH, "run.py")

sys.path.insert(0, BENCH)
import measure  # noqa: E402
import run  # noqa: E402


@pytest.mark.slow
@pytest.mark.seconds(600)
def test_quick_bench(tmp_path):
    path = tmp_path / "bench.json"
    done = subprocess.run([sys.executable, RUN, "--quick", "--clients", "2", "--json", str(path)],
                          capture_output=True, text=True, timeout=570,
                          env={**os.environ, "PGFRESH_BIN": binary()})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads(path.read_text(encoding="utf-8"))
    cells = {(cell["name"], cell["mode"]): cell for cell in report["cells"]}
    broken = {key: cell["error"] for key, cell in cells.items()
              if cell.get("error", "not offered") != "not offered"}
    assert not broken
    assert not {key for key, cell in cells.items() if "doubt" in cell}
    for mode in ("simple", "extended", "prepared"):
        assert cells["pgfresh, hit", mode]["hit_share"] > 0.95
        assert cells["pgfresh, miss", mode]["hit_share"] < 0.2
        assert cells["pgfresh, caching off", mode]["hit_share"] == 0
    assert all(result["alive"] for result in report["idle"].values())
    assert all(len(of_fsync) == 4 for of_fsync in report["triggers"].values())
    assert all(len(of_fsync) == 5 for of_fsync in report["writes"].values())
    assert {len(cell["rounds"]["tps"]) for cell in cells.values() if "error" not in cell} == {1}
    assert not {name for of_fsync in (*report["triggers"].values(), *report["writes"].values())
                for name, result in of_fsync.items() if "error" in result}
    assert "| pgfresh, hit |" in done.stdout


def test_rounds_are_compared_one_by_one():
    """A machine that is slow for a round is so for both, and changes no ratio."""
    hit = measure.median([{"tps": tps, "cpu_us": 5.0} for tps in (90, 9, 80)])
    echo = measure.median([{"tps": tps, "cpu_us": 4.0} for tps in (100, 10, 160)])
    assert (hit["tps"], hit["rounds"]["tps"]) == (80, [90, 9, 80])
    assert measure.median([{"tps": 1}, {"error": "gone"}]) == {"error": "gone"}
    cells = [{"name": name, "mode": "simple", "clients": 16, **result}
             for name, result in (("pgfresh, hit", hit), ("echo server, the ceiling", echo))]
    aims = {row[0]: row[1:] for row in run.aims({"cells": cells, "idle": {}, "triggers": {},
                                                 "writes": {}})}
    assert aims == {"hit / echo, tps, simple": (0.9, "≥ 0.8", True, "0.50 to 0.90"),
                    "hit / echo, CPU, simple": (1.25, "≤ 1.5", True, "1.25 to 1.25")}
