//! The teaching assistant: scores the perspectives of each question from frozen features of their rationales.
//!
//! The network ([`AssistantNetwork`]), its objective ([`meta_loss`]) and the artifact that holds a trained one with
//! the features it reads ([`Assistant`]). Who trains it, and on which losses, is the business of the kinds.
//!
//! A question lacks a perspective when no right rationale was written from it. Such a path is masked: whatever stands
//! in its place changes neither the scores of the others nor the loss.

use std::{fs, path::Path};

use burn::{
    module::{Module, Param},
    nn::{LayerNorm, LayerNormConfig, Linear},
    store::{ModuleSnapshot, SafetensorsStore},
    tensor::{
        Device, Tensor, TensorData,
        activation::{gelu, log_softmax, sigmoid, softmax},
    },
};
use contract::{StageError, jsonl};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::LmError;

const CONFIG: &str = "assistant.json";
const WEIGHTS: &str = "assistant.safetensors";
const QUESTIONS: &str = "features.json";
const FEATURES: &str = "features.safetensors";

/// Added to the logits of masked paths; its exponential is zero in every dtype we use, and it stays finite.
const MASKED: f64 = -1e9;

/// Which of the two distributions stands on the left of the divergence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetaKl {
    /// KL(softmax(s / tau) || softmax(-L_real / tau)), as the paper writes it.
    #[default]
    PredictedTarget,
    /// KL(softmax(-L_real / tau) || softmax(s / tau)), the usual direction of ListNet.
    TargetPredicted,
}

/// Sizes of an assistant network; `assistant.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssistantConfig {
    /// The perspectives in the order of paths and heads.
    pub perspectives: Vec<String>,
    /// Width of the features.
    pub feature_size: usize,
    /// Width d of the aligned paths.
    pub hidden_size: usize,
    /// Attention heads of the synergy layer; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Hidden width of each scoring head.
    pub head_hidden_size: usize,
    /// Whether paths attend to one another. Where not, each attends to itself alone: the same parameters, no synergy.
    pub attention: bool,
}

/// Feature alignment, synergy layer and inertia scoring heads (MIND, arXiv 2601.03717).
#[derive(Module, Debug)]
pub struct AssistantNetwork {
    align_in: Linear,
    align_out: Linear,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    norm: LayerNorm,
    /// The first layers of all K heads side by side.
    head_in: Linear,
    head_out: Param<Tensor<2>>,
    head_bias: Param<Tensor<1>>,
    #[module(skip)]
    num_attention_heads: usize,
    #[module(skip)]
    attention: bool,
}

impl AssistantNetwork {
    /// A network with fresh weights drawn from `rng`.
    pub fn new(config: &AssistantConfig, rng: &mut impl Rng, device: &Device) -> Self {
        let width = config.hidden_size;
        let paths = config.perspectives.len();
        let hidden = config.head_hidden_size;
        Self {
            align_in: linear(config.feature_size, width, rng, device),
            align_out: linear(width, width, rng, device),
            q_proj: linear(width, width, rng, device),
            k_proj: linear(width, width, rng, device),
            v_proj: linear(width, width, rng, device),
            o_proj: linear(width, width, rng, device),
            norm: LayerNormConfig::new(width).init(device),
            head_in: linear(width, paths * hidden, rng, device),
            head_out: Param::from_tensor(uniform([paths, hidden], hidden, rng, device)),
            head_bias: Param::from_tensor(Tensor::zeros([paths], device)),
            num_attention_heads: config.num_attention_heads,
            attention: config.attention,
        }
    }

    /// The score matrix M: entry (path, head) is what the head of one perspective says of a path.
    ///
    /// # Shapes
    ///
    /// - features: `[questions, paths, feature_size]`
    /// - mask: `[questions, paths]`, 1 where the path is present, 0 where it is missing
    /// - output: `[questions, paths, heads]`, as many heads as paths
    pub fn forward(&self, features: Tensor<3>, mask: Tensor<2>) -> Tensor<3> {
        let [questions, paths, _] = features.dims();
        let aligned = self.align_out.forward(gelu(self.align_in.forward(features)));
        let attended = self.synergy(aligned.clone(), mask);
        let fused = self.norm.forward(aligned + attended);

        let [heads, hidden] = self.head_out.val().dims();
        // [questions, paths, heads, hidden]
        let inner = gelu(self.head_in.forward(fused)).reshape([questions, paths, heads, hidden]);
        let out = self.head_out.val().reshape([1, 1, heads, hidden]);
        let bias = self.head_bias.val().reshape([1, 1, heads]);
        (inner * out).sum_dim(3).reshape([questions, paths, heads]) + bias
    }

    /// Multi-head self-attention over the paths of one question, `[questions, paths, width]` to the same.
    fn synergy(&self, x: Tensor<3>, mask: Tensor<2>) -> Tensor<3> {
        let [questions, paths, width] = x.dims();
        let heads = self.num_attention_heads;
        let size = width / heads;
        // [questions, heads, paths, size]
        let split = |x: Tensor<3>| x.reshape([questions, paths, heads, size]).swap_dims(1, 2);
        let q = split(self.q_proj.forward(x.clone()));
        let k = split(self.k_proj.forward(x.clone()));
        let v = split(self.v_proj.forward(x));
        let allowed = if self.attention {
            mask.reshape([questions, 1, 1, paths])
        } else {
            Tensor::<2>::eye(paths, &mask.device()).reshape([1, 1, paths, paths])
        };
        let logits = q.matmul(k.swap_dims(2, 3)).div_scalar((size as f64).sqrt());
        let weights = softmax(logits + blocked(allowed), 3);
        self.o_proj.forward(weights.matmul(v).swap_dims(1, 2).reshape([questions, paths, width]))
    }
}

/// s_k = sigmoid(M_kk): what each head says of its own path, in 0..1.
///
/// # Shapes
///
/// - matrix: `[questions, paths, paths]`
/// - output: `[questions, paths]`
pub fn scores(matrix: Tensor<3>) -> Tensor<2> {
    let [questions, paths, _] = matrix.dims();
    let diagonal = Tensor::<2>::eye(paths, &matrix.device()).reshape([1, paths, paths]);
    sigmoid((matrix * diagonal).sum_dim(1).reshape([questions, paths]))
}

/// ListNet divergence of the scores from the student's losses, over present paths, summed over questions.
///
/// The losses are data: no gradient reaches the student through them.
///
/// # Shapes
///
/// - scores, losses, mask: `[questions, paths]`; mask is 1 where the path is present
/// - output: `[1]`
pub fn meta_loss(
    scores: Tensor<2>,
    losses: Tensor<2>,
    mask: Tensor<2>,
    tau: f64,
    direction: MetaKl,
) -> Tensor<1> {
    let distribution = |logits: Tensor<2>| log_softmax(logits.div_scalar(tau) + blocked(mask.clone()), 1);
    let predicted = distribution(scores);
    let target = distribution(losses.detach().neg());
    let (left, right) = match direction {
        MetaKl::PredictedTarget => (predicted, target),
        MetaKl::TargetPredicted => (target, predicted),
    };
    (left.clone().exp() * (left - right) * mask).sum()
}

/// Frozen features of every rationale and what the base student loses on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Question ids, in the order of the rows.
    pub questions: Vec<String>,
    /// Paths of a question.
    pub paths: usize,
    /// Width of one feature vector.
    pub size: usize,
    /// `[questions, paths, size]`, zero where the path is missing.
    pub values: Vec<f32>,
    /// `[questions, paths]`, 1 where the path is present.
    pub mask: Vec<f32>,
    /// `[questions, paths]`, the base student's mean cross-entropy in nats; zero where the path is missing.
    pub losses: Vec<f32>,
}

impl Features {
    /// The base student's mean loss on the rationales that a question has, in nats; 0 where there are none.
    pub fn loss(&self, row: usize) -> f64 {
        let of_row = row * self.paths..(row + 1) * self.paths;
        let present =
            self.losses[of_row.clone()].iter().zip(&self.mask[of_row]).filter(|(_, mask)| **mask > 0.0);
        let (sum, count) =
            present.fold((0.0, 0.0), |(sum, count), (loss, _)| (sum + f64::from(*loss), count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// The rows of some questions: features `[rows, paths, size]` and mask `[rows, paths]`.
    pub fn rows(&self, rows: &[usize], device: &Device) -> (Tensor<3>, Tensor<2>) {
        let values = gather(&self.values, self.paths * self.size, rows);
        let mask = gather(&self.mask, self.paths, rows);
        (
            Tensor::from_data(TensorData::new(values, [rows.len(), self.paths, self.size]), device),
            Tensor::from_data(TensorData::new(mask, [rows.len(), self.paths]), device),
        )
    }

    /// The base student's losses on the paths of some questions, `[rows, paths]`.
    pub fn losses(&self, rows: &[usize], device: &Device) -> Tensor<2> {
        let losses = gather(&self.losses, self.paths, rows);
        Tensor::from_data(TensorData::new(losses, [rows.len(), self.paths]), device)
    }
}

impl Features {
    /// Reads what [`Features::save`] wrote.
    pub fn load(folder: &Path) -> Result<Self, StageError> {
        let questions: Vec<String> = jsonl::read_json(&folder.join(QUESTIONS))?;
        let file = folder.join(FEATURES);
        let bytes = fs::read(&file).map_err(StageError::io(&file))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| weights(&file, error))?;
        let shape = tensors.tensor("features").map_err(|error| weights(&file, error))?.shape().to_vec();
        let [rows, paths, size] = shape[..] else {
            return Err(weights(&file, format!("tensor `features` is {shape:?}, expected three axes")));
        };
        let read = |name: &str, shape: &[usize]| -> Result<Vec<f32>, StageError> {
            let view = tensors.tensor(name).map_err(|error| weights(&file, error))?;
            if view.dtype() != Dtype::F32 || view.shape() != shape {
                let problem = format!("tensor `{name}` is {:?}, expected F32 {shape:?}", view.shape());
                return Err(weights(&file, problem));
            }
            Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        };
        if rows != questions.len() {
            let problem = format!("features of {rows} questions, `{QUESTIONS}` lists {}", questions.len());
            return Err(weights(&file, problem));
        }
        let values = read("features", &[rows, paths, size])?;
        let mask = read("mask", &[rows, paths])?;
        let losses = read("losses", &[rows, paths])?;
        Ok(Self { questions, paths, size, values, mask, losses })
    }

    /// Writes the features into a folder; equal features give equal bytes.
    pub fn save(&self, folder: &Path) -> Result<(), StageError> {
        jsonl::write_json(&folder.join(QUESTIONS), &self.questions)?;
        let Self { questions, paths, size, values, mask, losses } = self;
        let rows = questions.len();
        let [values, mask, losses] = [values, mask, losses].map(|numbers| bytes(numbers));
        let view = |shape: &[usize], bytes| TensorView::new(Dtype::F32, shape.to_vec(), bytes);
        let tensors = [
            ("features", view(&[rows, *paths, *size], &values).map_err(StageError::failed)?),
            ("mask", view(&[rows, *paths], &mask).map_err(StageError::failed)?),
            ("losses", view(&[rows, *paths], &losses).map_err(StageError::failed)?),
        ];
        let file = folder.join(FEATURES);
        let bytes = safetensors::serialize(tensors, None).map_err(StageError::failed)?;
        fs::write(&file, bytes).map_err(StageError::io(&file))
    }
}

/// A trained assistant with the features it reads; an `assistant` artifact.
#[derive(Clone, Debug)]
pub struct Assistant {
    /// Sizes and perspectives.
    pub config: AssistantConfig,
    /// The network.
    pub network: AssistantNetwork,
    /// What it reads.
    pub features: Features,
}

impl Assistant {
    /// Reads an artifact's folder; the weights come to `device`.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, StageError> {
        let config: AssistantConfig = jsonl::read_json(&folder.join(CONFIG))?;
        let network = load_network(&config, &folder.join(WEIGHTS), device)?;
        let features = Features::load(folder)?;
        if (features.paths, features.size) != (config.perspectives.len(), config.feature_size) {
            let problem = format!(
                "features of {} paths and width {}, the network reads {} and {}",
                features.paths,
                features.size,
                config.perspectives.len(),
                config.feature_size
            );
            return Err(weights(&folder.join(FEATURES), problem));
        }
        Ok(Self { config, network, features })
    }

    /// Writes an artifact's folder.
    pub fn save(&self, folder: &Path) -> Result<(), StageError> {
        jsonl::write_json(&folder.join(CONFIG), &self.config)?;
        save_network(&self.network, &folder.join(WEIGHTS))?;
        self.features.save(folder)
    }
}

fn save_network(network: &AssistantNetwork, path: &Path) -> Result<(), StageError> {
    // One metadata entry only: a map of several would be written in no fixed order.
    let mut store =
        SafetensorsStore::from_file(path).clear_metadata().metadata("format", "pt").overwrite(true);
    network.save_into(&mut store).map_err(|error| weights(path, error))
}

fn load_network(
    config: &AssistantConfig,
    path: &Path,
    device: &Device,
) -> Result<AssistantNetwork, StageError> {
    let mut network = AssistantNetwork::new(config, &mut SmallRng::seed_from_u64(0), device);
    let mut store = SafetensorsStore::from_file(path);
    network.load_from(&mut store).map_err(|error| weights(path, error))?;
    Ok(network)
}

fn weights(path: &Path, problem: impl std::fmt::Display) -> StageError {
    LmError::Weights { path: path.to_owned(), problem: problem.to_string() }.into()
}

/// What to add to logits so that those with `allowed` 0 vanish and those with 1 stay.
fn blocked<const D: usize>(allowed: Tensor<D>) -> Tensor<D> {
    (allowed - 1.0) * -MASKED
}

fn gather(numbers: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|row| &numbers[row * width..(row + 1) * width]).copied().collect()
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A layer drawn from U(-1/sqrt(input), 1/sqrt(input)), its bias zero.
fn linear(input: usize, output: usize, rng: &mut impl Rng, device: &Device) -> Linear {
    Linear {
        weight: Param::from_tensor(uniform([input, output], input, rng, device)),
        bias: Some(Param::from_tensor(Tensor::zeros([output], device))),
    }
}

fn uniform(shape: [usize; 2], fan_in: usize, rng: &mut impl Rng, device: &Device) -> Tensor<2> {
    let bound = 1.0 / (fan_in as f32).sqrt();
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| rng.random_range(-bound..bound)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn device() -> Device {
        Device::flex().autodiff()
    }

    fn tensor<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &device())
    }

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.try_into_vec_as().unwrap()
    }

    fn close(left: &[f32], right: &[f32]) {
        assert_eq!(left.len(), right.len());
        for (l, r) in left.iter().zip(right) {
            assert!((l - r).abs() < 1e-5, "{left:?} is not {right:?}");
        }
    }

    fn config(attention: bool) -> AssistantConfig {
        AssistantConfig {
            perspectives: ["a", "b", "c"].map(String::from).to_vec(),
            feature_size: 4,
            hidden_size: 6,
            num_attention_heads: 2,
            head_hidden_size: 5,
            attention,
        }
    }

    fn network(attention: bool) -> AssistantNetwork {
        AssistantNetwork::new(&config(attention), &mut SmallRng::seed_from_u64(7), &device())
    }

    fn features() -> Vec<f32> {
        (0..24).map(|i| ((i * 7 % 11) as f32 - 5.0) / 3.0).collect()
    }

    #[test]
    fn a_score_is_the_sigmoid_of_the_diagonal() {
        let matrix = [0.0, 9.0, -9.0, 3.0_f32.ln(), 1.0, -1.0, 9.0, -(3.0_f32.ln())];
        close(&numbers(scores(tensor(&matrix, [2, 2, 2]))), &[0.5, 0.75, 0.731_058_6, 0.25]);
    }

    #[test]
    fn the_meta_loss_is_the_divergence_worked_out_by_hand() {
        // tau 0.5: scores (0, ln2 / 2) give (1/3, 2/3); losses (ln3 / 2, 0) give (1/4, 3/4). The third path is missing.
        // The second question's two distributions are equal, it adds nothing.
        let (ln2, ln3) = (2.0_f32.ln(), 3.0_f32.ln());
        let s = [0.0, ln2 / 2.0, 7.0, 0.2, 0.4, 0.1];
        let l = [ln3 / 2.0, 0.0, -3.0, 1.4, 1.2, 1.5];
        let mask = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0];
        let loss = |direction| {
            let loss =
                meta_loss(tensor(&s, [2, 3]), tensor(&l, [2, 3]), tensor(&mask, [2, 3]), 0.5, direction);
            numbers(loss)[0]
        };
        let third = 1.0_f32 / 3.0;
        let forward = third * (third / 0.25).ln() + 2.0 * third * (2.0 * third / 0.75).ln();
        let backward = 0.25 * (0.25 / third).ln() + 0.75 * (0.75 / (2.0 * third)).ln();
        close(&[loss(MetaKl::PredictedTarget), loss(MetaKl::TargetPredicted)], &[forward, backward]);
        assert!((forward - backward).abs() > 1e-4, "the example tells the directions apart");
    }

    #[test]
    fn losses_get_no_gradient_and_scores_do() {
        let losses = tensor(&[1.0, 2.0], [1, 2]).require_grad();
        let scores = tensor(&[0.1, 0.3], [1, 2]).require_grad();
        let mask = tensor(&[1.0, 1.0], [1, 2]);
        let loss = meta_loss(scores.clone(), losses.clone(), mask, 1.0, MetaKl::PredictedTarget);
        let gradients = loss.backward();
        assert!(losses.grad(&gradients).is_none());
        assert!(numbers(scores.grad(&gradients).unwrap()).iter().all(|g| g.abs() > 1e-3));
    }

    #[test]
    fn a_missing_path_changes_nothing() {
        let network = network(true);
        let mask = [1.0, 0.0, 1.0, 1.0, 1.0, 1.0];
        let mut values = features();
        let before = numbers(scores(network.forward(tensor(&values, [2, 3, 4]), tensor(&mask, [2, 3]))));
        values[4..8].fill(50.0);
        let after = numbers(scores(network.forward(tensor(&values, [2, 3, 4]), tensor(&mask, [2, 3]))));
        assert_eq!((before[0], before[2], &before[3..]), (after[0], after[2], &after[3..]));

        let meta = |s: &[f32]| {
            let s = tensor(s, [2, 3]).require_grad();
            let losses = tensor(&[1.0, 9.0, 2.0, 1.0, 2.0, 3.0], [2, 3]);
            let loss = meta_loss(s.clone(), losses, tensor(&mask, [2, 3]), 1.0, MetaKl::TargetPredicted);
            let gradients = loss.backward();
            (numbers(loss), numbers(s.grad(&gradients).unwrap()))
        };
        assert_eq!(meta(&before), meta(&after));
        assert_eq!(meta(&after).1[1], 0.0);
    }

    #[test]
    fn paths_see_one_another_only_with_attention() {
        for attention in [true, false] {
            let network = network(attention);
            let mask = tensor(&[1.0; 6], [2, 3]);
            let mut values = features();
            let before = numbers(scores(network.forward(tensor(&values, [2, 3, 4]), mask.clone())));
            values[4] += 1.0;
            let after = numbers(scores(network.forward(tensor(&values, [2, 3, 4]), mask)));
            assert_ne!(before[1], after[1]);
            assert_eq!(before[0] != after[0], attention);
            assert_eq!(before[3..], after[3..]);
        }
        assert_eq!(network(true).num_params(), network(false).num_params());
    }

    #[test]
    fn an_artifact_survives_the_disk_and_its_bytes_are_fixed() {
        let features = Features {
            questions: vec!["q0".into(), "q1".into()],
            paths: 3,
            size: 4,
            values: features(),
            mask: vec![1.0, 0.0, 1.0, 1.0, 1.0, 1.0],
            losses: vec![1.5, 0.0, 2.0, 1.0, 3.0, 0.5],
        };
        let assistant = Assistant { config: config(true), network: network(true), features };
        let folder = tempfile::tempdir().unwrap();
        assistant.save(folder.path()).unwrap();
        let first = fs::read(folder.path().join(WEIGHTS)).unwrap();

        let loaded = Assistant::load(folder.path(), &device()).unwrap();
        assert_eq!(loaded.config, assistant.config);
        assert_eq!(loaded.features, assistant.features);
        let matrix = |a: &Assistant| {
            let (values, mask) = a.features.rows(&[1, 0], &device());
            numbers(a.network.forward(values, mask))
        };
        assert_eq!(matrix(&loaded), matrix(&assistant));
        loaded.save(folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join(WEIGHTS)).unwrap(), first);
    }
}
