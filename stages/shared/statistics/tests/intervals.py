"""Writes intervals.json: quantiles of Student's t, Welch's intervals, and intervals of paired proportions.

Run: python3 intervals.py > intervals.json   (numpy 2.4.6, scipy 1.17.1)

Inputs: accuracies of a few runs a row, with equal and unequal noise; counts of questions that only one of two rows got right.
1 and 7 of 21 is the example of Fagerland, Lydersen and Laake (2014), "Recommended tests and confidence intervals for paired
binomial proportions". The paired intervals are worked out here from Bonett and Price (2012), as scipy has none.
"""

import json

import numpy as np
from scipy import stats


def welch(left, right):
    interval = stats.ttest_ind(left, right, equal_var=False).confidence_interval(0.95)
    return {"left": left, "right": right, "interval": [float(interval.low), float(interval.high)]}


def paired(questions, better, worse):
    p12, p21 = (better + 1) / (questions + 2), (worse + 1) / (questions + 2)
    half = stats.norm.ppf(0.975) * np.sqrt((p12 + p21 - (p12 - p21) ** 2) / (questions + 2))
    interval = [float(p12 - p21 - half), float(p12 - p21 + half)]
    return {"questions": questions, "better": better, "worse": worse, "interval": interval}


degrees = [1, 1.5, 2, 2.3, 3, 4, 4.9, 7, 10, 31.7, 100, 999, 9876.5]
written = {
    "quantiles": [[nu, float(stats.t.ppf(0.975, nu))] for nu in degrees],
    "welch": [
        welch([0.62, 0.64, 0.69], [0.55, 0.58, 0.51]),
        welch([0.62, 0.64, 0.69], [0.41, 0.73, 0.55, 0.60, 0.49]),
        welch([0.80, 0.70], [0.44, 0.46]),
    ],
    "paired": [paired(60, 4, 0), paired(60, 6, 0), paired(21, 1, 7), paired(44, 14, 3), paired(100, 0, 0), paired(7, 7, 0)],
}
print("{\n" + ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in written.items()) + "\n}")
