"""Writes mixture.json: what scikit-learn's Dirichlet-process mixture makes of points and given first responsibilities.

Run: python3 mixture.py > mixture.json   (numpy 2.4.6, scikit-learn 1.9.1)

Inputs: numpy's default_rng(11); 90 points of 3 groups in 4 dimensions, and responsibilities of 6 components: each point belongs
to a component of its own group by 0.7, the rest is spread evenly.
"""

import json
import warnings

import numpy as np
from sklearn.mixture import BayesianGaussianMixture

rng = np.random.default_rng(11)
groups = np.arange(90) % 3
centres = np.array([[3, 0, 0, 1], [0, 3, 0, -1], [-2, -2, 2, 0]])
points = (rng.normal(size=(90, 4)) * [1.0, 0.7, 0.5, 0.3] + centres[groups]).round(4)
responsibilities = np.full((90, 6), 0.3 / 5)
responsibilities[np.arange(90), groups + 3 * rng.integers(2, size=90)] = 0.7


class Started(BayesianGaussianMixture):
    """Starts from the responsibilities above, whatever else it is told."""

    def _initialize_parameters(self, X, random_state, xp=None):
        self._initialize(X, responsibilities)


cases = []
for covariance, concentration, iterations in [
    ("diag", None, 500),
    ("full", None, 500),
    ("diag", 5.0, 500),
    ("full", 5.0, 500),
    ("diag", None, 3),
]:
    mixture = Started(
        n_components=6,
        covariance_type=covariance,
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=concentration,
        max_iter=iterations,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels = mixture.fit_predict(points)
    cases.append(
        {
            "covariance": covariance,
            "concentration": mixture.weight_concentration_prior_,
            "iterations": iterations,
            "lower_bound": float(mixture.lower_bound_),
            "rounds": mixture.n_iter_,
            "converged": bool(mixture.converged_),
            "weights": mixture.weights_.tolist(),
            "means": mixture.means_.tolist(),
            "labels": labels.tolist(),
        }
    )

written = {
    "points": points.tolist(),
    "groups": groups.tolist(),
    "responsibilities": responsibilities.tolist(),
    "cases": cases,
}
print("{\n" + ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in written.items()) + "\n}")
