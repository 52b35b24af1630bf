"""The bench runs from end to end and measures what it says; no time is ever judged here."""
import json
import os
import subprocess
import sys

import pytest

from pgfresh_proc import binary

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench", "run.py")


@pytest.mark.slow
@pytest.mark.seconds(600)
def test_quick_bench(tmp_path):
    path = tmp_path / "bench.json"
    done = subprocess.run([sys.executable, RUN, "--quick", "--clients", "2", "--rounds", "2", "--json",
                           str(path)],
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
    assert {len(cell["rounds"]["tps"]) for cell in cells.values() if "error" not in cell} == {2}
    assert not {name for of_fsync in (*report["triggers"].values(), *report["writes"].values())
                for name, result in of_fsync.items() if "error" in result}
    assert "| pgfresh, hit |" in done.stdout
