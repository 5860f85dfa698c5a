"""What every model must beat: scikit-learn on the same rows, columns and split.

    python floors.py scores FOLDER    fits, scores, and writes the scores beside the rows
    python floors.py speed FOLDER     how long score_samples takes on one core

Called by `cargo xtask eval`, which writes FOLDER/jobs.json and the rows. Numbers are little-endian and row-major.

    NAME.rows.f32      all rows                  NAME.part.u8      0 fit, 1 calibration, 2 validation
    NAME.family.u8     0 normal, else the family of the attack
    NAME.MODEL.f64     scores of the rows that are not part 0, in order; higher is more anomalous
"""

import json
import os
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
from sklearn.ensemble import IsolationForest, RandomForestClassifier

from export_isolation_forest import export

TREES = 100


class Job:
    def __init__(self, folder, job):
        self.folder, self.name, self.seed = folder, job["name"], job["seed"]
        self.seeds, self.left_out = job["seeds"], job["left_out"]
        self.rows = np.fromfile(folder / f"{self.name}.rows.f32", dtype="<f4").reshape(-1, job["columns"])
        self.part = np.fromfile(folder / f"{self.name}.part.u8", dtype=np.uint8)
        self.family = np.fromfile(folder / f"{self.name}.family.u8", dtype=np.uint8)
        self.measured = self.rows[self.part > 0]

    def write(self, model, scores):
        np.asarray(scores, dtype="<f8").tofile(self.folder / f"{self.name}.{model}.f64")

    def isolation_forest(self, seed):
        normal = self.rows[(self.part == 0) & (self.family == 0)]
        return IsolationForest(n_estimators=TREES, random_state=seed).fit(normal)

    def random_forest(self, without=None):
        chosen = (self.part == 0) & (self.family != (255 if without is None else without))
        forest = RandomForestClassifier(n_estimators=TREES, random_state=self.seed, n_jobs=os.cpu_count())
        forest.fit(self.rows[chosen], self.family[chosen])
        # Several threads would add up the trees in any order, and the last digit would differ from run to run.
        forest.n_jobs = 1
        return forest

    def score(self):
        forest = self.isolation_forest(self.seed)
        self.write("isolation_forest", -forest.score_samples(self.measured))
        for seed in range(self.seeds):
            self.write(f"isolation_forest.seed_{seed}", -self.isolation_forest(seed).score_samples(self.measured))
        if self.seeds:
            (self.folder / f"{self.name}.forest.json").write_text(json.dumps(export(forest)))
        self.write("random_forest", 1.0 - self.random_forest().predict_proba(self.measured)[:, 0])
        for family in self.left_out:
            forest = self.random_forest(without=family)
            self.write(f"random_forest.without_{family}", 1.0 - forest.predict_proba(self.measured)[:, 0])


def seconds(call, runs):
    """The quickest of several runs: what else a machine does can only add to it."""
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def speed(job):
    isolation, random = job.isolation_forest(job.seed), job.random_forest()
    batch, single = job.measured[:10_000], job.measured[:1]
    costs = {}
    for name, call in (("isolation_forest", isolation.score_samples), ("random_forest", random.predict_proba)):
        costs[name] = {
            "batch": seconds(lambda: call(batch), 15) / len(batch),
            "single": seconds(lambda: call(single), 50),
        }
    return costs


def main(task, folder):
    jobs = json.loads((folder / "jobs.json").read_text())
    if task == "speed":
        costs = speed(Job(folder, jobs[0]))
        (folder / "costs.json").write_text(json.dumps(costs))
        return
    for job in jobs:
        print(f"scikit-learn: {job['name']}", file=sys.stderr, flush=True)
        Job(folder, job).score()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("scores", "speed"):
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]))
