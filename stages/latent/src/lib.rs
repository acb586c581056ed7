//! Kinds `latent` and `forgetting`: what a distillation changed inside a model, and what it cost elsewhere.
//!
//! `latent` projects and measures hidden states.
//!
//! Every model reads the same texts. Its vectors are drawn (PCA, then t-SNE, coloured by perspective), grouped by a
//! Dirichlet-process mixture, and measured at every layer (silhouette, agreement of groups and perspectives, effective rank,
//! participation ratio, anisotropy, CKA); linear probes say whether perspective and correctness can be read off them, and the
//! KL divergence how far the next tokens have moved. So are those of the undistilled model: where that one separates the
//! perspectives as well, a picture shows their wording and nothing learned from them. With models that were taught one
//! perspective each, [`Params::taught`] sets them against that control and another one and says which it is.
//!
//! Nothing in it trains, and no number of it says that a model answers better. [`mod@forgetting`] draws how answers change over
//! training steps.

mod stage;
pub use mixture::Covariance;
pub use stage::{Latent, Layer, MixtureParams, Params, Pooling, SentenceSpace};

mod subject;

mod analysis;

mod vectors;

mod measures;

mod agreement;

mod projection;

mod mixture;

mod picture;

mod clusters;

mod probe;

mod drift;

mod sentences;

mod results;

pub mod forgetting;

mod figure;

mod lines;
