"""Writes reference.json: small vectors and what numpy and scikit-learn say about them.

Run: python3 reference.py > reference.json   (numpy 2.4.6, scikit-learn 1.9.1)

Inputs: numpy's default_rng(7); 24 texts of 3 groups in 6 dimensions around a common offset, group 2 with
a single text, and a second set in 5 dimensions that is partly a linear map of the first. Five pairs of groupings: random,
half alike, alike under other names, everything in one group on one side, and on both.
"""

import json

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    pairwise_distances,
    silhouette_samples,
)

rng = np.random.default_rng(7)
groups = np.array([i % 2 for i in range(23)] + [2])
vectors = rng.normal(size=(24, 6)) * [3.0, 2.0, 1.0, 0.5, 0.2, 0.1] + 2.0 + 1.5 * np.eye(3, 6)[groups]
other = vectors @ rng.normal(size=(6, 5)) + 4.0 * rng.normal(size=(24, 5)) - 10.0
vectors, other = vectors.round(4), other.round(4)


def unbiased_hsic(x, y):
    """Eq. 5 of Song et al. 2012, written with the n by n matrices."""
    n = len(x)
    k, l = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0.0)
    np.fill_diagonal(l, 0.0)
    one = np.ones(n)
    total = np.trace(k @ l) + one @ k @ one * (one @ l @ one) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * one @ k @ l @ one) / (n * (n - 3))


def biased_hsic(x, y):
    """With the n by n centring matrix."""
    h = np.eye(len(x)) - 1 / len(x)
    return np.trace(x @ x.T @ h @ y @ y.T @ h)


def agreement(left, right):
    return {
        "left": left.tolist(),
        "right": right.tolist(),
        "adjusted_rand": float(adjusted_rand_score(left, right)),
        "normalized_mutual_information": float(normalized_mutual_info_score(left, right)),
    }


left, right = rng.integers(4, size=40), rng.integers(3, size=40)
half = np.where(np.arange(40) % 2, left, right)
one = np.zeros(40, dtype=int)
singular = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
p = singular / singular.sum()
similarity = 1 - pairwise_distances(vectors, metric="cosine")
pca = PCA(n_components=3).fit(vectors)
signs = np.array([row[np.abs(row).argmax()] < 0 for row in pca.components_])
expected = {
    "vectors": vectors.tolist(),
    "other": other.tolist(),
    "groups": groups.tolist(),
    "silhouettes": silhouette_samples(vectors, groups, metric="cosine").tolist(),
    "effective_rank": float(np.exp(-(p * np.log(p)).sum())),
    "participation_ratio": float((singular**2).sum() ** 2 / (singular**4).sum()),
    "anisotropy": float(similarity[~np.eye(24, dtype=bool)].mean()),
    "linear_cka": float(
        biased_hsic(vectors, other) / np.sqrt(biased_hsic(vectors, vectors) * biased_hsic(other, other))
    ),
    "unbiased_linear_cka": float(
        unbiased_hsic(vectors, other)
        / np.sqrt(unbiased_hsic(vectors, vectors) * unbiased_hsic(other, other))
    ),
    "explained": pca.explained_variance_ratio_.tolist(),
    "agreements": [agreement(left, to) for to in [right, half, (left + 1) % 4, one]] + [agreement(one, one)],
    "scores": (pca.transform(vectors) * np.where(signs, -1, 1)).tolist(),
    "trustworthiness": float(trustworthiness(vectors, pca.transform(vectors)[:, :2], n_neighbors=5)),
}
print("{\n" + ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in expected.items()) + "\n}")
