//! Kind latent: hidden states of models, projected and measured.
//!
//! Every model reads the same texts. Its vectors are drawn (PCA, then t-SNE, coloured by perspective) and measured
//! (silhouette, effective rank, participation ratio, anisotropy, CKA), and so are those of the undistilled model: where
//! that one separates the perspectives as well, a picture shows their wording and nothing learned from them.
//!
//! Nothing here trains, and no number here says that a model answers better.

mod stage;
pub use stage::{Latent, Layer, Params, Pooling};

mod analysis;

mod vectors;

mod measures;

mod projection;

mod results;

mod figure;
