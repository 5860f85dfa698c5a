"""Writes a fitted scikit-learn IsolationForest as JSON that `IsolationForest::from_parts` can take.

    python export_isolation_forest.py FOREST.pickle > forest.json
    python export_isolation_forest.py --fixture FOLDER

The first form reads a forest that was pickled by joblib: only open a file that you made. The second fits a small forest
to rows that are computed, not read, and writes it with its scores: the fixture of tests/parity.rs.
"""

import json
import sys
from pathlib import Path

import numpy as np


def export(forest):
    """The arrays of each tree, with columns numbered as in the rows the forest was fitted to."""
    trees = []
    for estimator, columns in zip(forest.estimators_, forest.estimators_features_):
        tree = estimator.tree_
        leaf = tree.children_left == tree.children_right
        feature = np.where(leaf, -2, columns[np.where(leaf, 0, tree.feature)])
        trees.append(
            {
                "feature": feature.tolist(),
                "threshold": tree.threshold.tolist(),
                "left": tree.children_left.tolist(),
                "right": tree.children_right.tolist(),
                "n_node_samples": tree.n_node_samples.tolist(),
            }
        )
    return {"features": int(forest.n_features_in_), "max_samples": int(forest.max_samples_), "trees": trees}


def computed_rows(count, columns):
    """Rows that need no random number generator: a Weyl sequence in whole numbers, skewed as flow features are."""
    index = np.arange(count * columns, dtype=np.uint64)
    unit = ((index * np.uint64(2654435769)) % np.uint64(1 << 32)).astype(np.float64) / (1 << 32)
    return (unit**3 * 1000.0).astype(np.float32).reshape(count, columns)


def write_fixture(folder):
    from sklearn.ensemble import IsolationForest

    rows = computed_rows(10_000, 5)
    forest = IsolationForest(n_estimators=20, max_samples=64, random_state=1).fit(rows[:2_000])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "forest.json").write_text(json.dumps(export(forest), separators=(",", ":")) + "\n")
    (-forest.score_samples(rows)).astype("<f4").tofile(folder / "scores.f32")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--fixture":
        write_fixture(Path(sys.argv[2]))
    elif len(sys.argv) == 2 and not sys.argv[1].startswith("-"):
        import joblib

        json.dump(export(joblib.load(sys.argv[1])), sys.stdout, separators=(",", ":"))
    else:
        sys.exit(__doc__)
