"""Writes digits.json: handwritten digits, and how faithful scikit-learn's pictures of them are.

Run: python3 digits.py > digits.json   (numpy 2.4.6, scikit-learn 1.9.1)

Inputs: every fifth of the 1,797 digits that come with scikit-learn (8 x 8 pixels of 0 to 16; UCI ML hand-written digits,
CC BY 4.0), and its t-SNE with perplexity 30, from random and from PCA positions, three seeds each.
"""

import json

import numpy as np
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE, trustworthiness

pixels = load_digits().data[::5].astype(int)
found = []
for init in ["random", "pca"]:
    for seed in range(3):
        places = TSNE(perplexity=30, init=init, random_state=seed).fit_transform(pixels.astype(float))
        found.append((trustworthiness(pixels, places.astype(float).round(3), n_neighbors=5), places))
best = max(found, key=lambda pair: pair[0])
written = {
    "pixels": ["".join(f"{value:x}" if value < 16 else "g" for value in row) for row in pixels],
    "trustworthiness": [float(value) for value, _ in found],
    "places": best[1].astype(float).round(3).tolist(),
    "trustworthiness_of_places": float(best[0]),
}
print("{\n" + ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in written.items()) + "\n}")
