"""Writes probe.json: what scikit-learn's logistic regression says of vectors it has not seen.

Run: python3 probe.py > probe.json   (numpy 2.4.6, scikit-learn 1.9.1)

Inputs: numpy's default_rng(13); 60 texts of 3 labels in 7 dimensions, which overlap, of 20 questions in 5 folds.
"""

import json

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(13)
labels = np.arange(60) % 3
folds = (np.arange(60) // 3) % 5
vectors = (rng.normal(size=(60, 7)) * np.linspace(0.2, 4, 7) + 1.2 * np.eye(3, 7)[labels] + 5.0).round(4)


def fitted(fold):
    probe = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=10000))
    return probe.fit(vectors[folds != fold], labels[folds != fold])


written = {
    "vectors": vectors.tolist(),
    "labels": labels.tolist(),
    "folds": folds.tolist(),
    "probabilities": fitted(0).predict_proba(vectors[folds == 0]).tolist(),
    "told": [fitted(fold).predict(vectors[folds == fold]).tolist() for fold in range(5)],
}
print("{\n" + ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in written.items()) + "\n}")
