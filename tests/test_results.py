"""The page of results says what the kept runs say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SPEC = importlib.util.spec_from_file_location("make_results", ROOT / "tools" / "make_results.py")
assert SPEC is not None and SPEC.loader is not None
tool: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


def run(folder: Path, **changes: Any) -> Path:
    """Return the folder of a made-up run."""
    folder.mkdir(parents=True)
    summary = {
        "recipe": "cnn", "title": "A network", "command": "toumei train cnn", "data": "Digits",
        "metric": "test accuracy", "value": 0.9, "target": 0.95, "mode": "max", "source": "A paper",
        "epochs": 2, "seconds": 90.0, "machine": "A processor", "seed": 0,
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    (folder / "history.json").write_text("[]")
    (folder / "loss.png").write_bytes(b"small")
    (folder / "filters.png").write_bytes(b"0" * (tool.LARGEST + 1))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_the_page_is_that_of_the_kept_runs() -> None:
    found = tool.rows(path.parent for path in tool.RESULTS.glob("*/summary.json"))
    page = tool.page(found, tool.comparisons())
    assert tool.PAGE.read_text() == page, "run  python tools/make_results.py"
    assert len(found) > 0


def test_only_small_files_are_kept(tmp_path: Path) -> None:
    tool.keep(run(tmp_path / "runs" / "a"), tmp_path / "results")
    names = sorted(p.name for p in (tmp_path / "results" / "a").iterdir())
    assert names == ["history.json", "loss.png", "summary.json"]


def test_seeds_make_one_row_with_their_median(tmp_path: Path) -> None:
    folders = [
        run(tmp_path / "a", value=0.94),
        run(tmp_path / "b", value=0.96, command="toumei train cnn --seed 1", seed=1, seconds=120.0),
        run(tmp_path / "c", value=0.97, command="toumei train cnn --seed 2", seed=2),
        run(tmp_path / "d", recipe="mlp", command="toumei train mlp"),
    ]
    found = tool.rows(folders)
    assert [len(row.summaries) for row in found] == [1, 3]  # the ladder's order
    text = tool.page(found)
    assert (
        "accuracy ≥ 95.00 % | **96.00 %, median of 3 seeds (94.00 % to 97.00 %)** | 2.0 | 0, 1, 2 |"
        in text
    )
    assert "| 90.00 %: missed | 1.5 | 0 | `toumei train mlp` |" in text


@pytest.mark.parametrize(("value", "words"), [(0.02, "**0.02**"), (0.05, "0.05: missed")])
def test_smaller_is_better_where_it_is(tmp_path: Path, value: float, words: str) -> None:
    folder = run(
        tmp_path / "a", recipe="pinn", metric="test error", mode="min", value=value, target=0.03
    )
    text = tool.page(tool.rows([folder]))
    assert "error ≤ 0.03" in text and words in text


def test_sides_are_compared_seed_by_seed(tmp_path: Path) -> None:
    def trained(side: str, seed: int, test: float, seconds: float | None) -> dict[str, Any]:
        return {"side": side, "seed": seed, "test": test, "seconds_to_figure": seconds, "error": ""}

    found = {
        "rung": "mlp", "data": "Digits", "metric": "accuracy", "target": 0.95,
        "budget": {"epochs": 3},
        "runs": [
            trained("toumei", 0, 0.96, 60.0), trained("torch", 0, 0.97, 90.0),
            trained("toumei", 1, 0.98, 60.0), trained("torch", 1, 0.99, 120.0),
            trained("jax", 0, 0.94, None),
        ],
    }  # fmt: skip
    (tmp_path / "quality-mlp.json").write_text(json.dumps(found))
    text = tool.page([], tool.comparisons(tmp_path))
    means = "97.00 % (96.00 %, 98.00 %) | 98.00 % (97.00 %, 99.00 %) | 94.00 %"
    assert f"| `mlp` | Digits | accuracy | 3 | 2 | {means} |" in text
    assert "| `mlp` | Digits | 95.00 % | 1.00 | 1.75 (× 1.75) | not reached |" in text
