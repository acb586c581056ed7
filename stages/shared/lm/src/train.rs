//! Training steps for any module: AdamW with f32 state, a learning-rate schedule, clipping by global norm, gradient
//! accumulation, and checkpoints from which training continues exactly.
//!
//! It knows nothing of models, batches or losses: a kind computes a loss and hands it over.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Device, Gradients, Tensor, TensorData},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Serialize, de::DeserializeOwned};

use crate::LmError;

const CHECKPOINT: &str = "checkpoint.safetensors";

/// Summing more numbers at once would split the sum by the number of threads, and so round differently.
const SUM_AT_ONCE: usize = 1 << 20;

/// How the learning rate moves over the steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// Always the same.
    Constant,
    /// Up linearly over `warmup` (a fraction of all steps), then down to zero along a cosine.
    Cosine {
        /// All optimizer steps.
        steps: usize,
        /// The fraction of them spent warming up.
        warmup: f64,
    },
}

impl Schedule {
    /// The factor on the learning rate at a step, from 0.
    pub fn factor(&self, step: usize) -> f64 {
        match *self {
            Self::Constant => 1.0,
            Self::Cosine { steps, warmup } => {
                let warm = (steps as f64 * warmup).ceil();
                let step = step as f64;
                if step < warm {
                    (step + 1.0) / warm
                } else {
                    let progress = (step - warm) / (steps as f64 - warm).max(1.0);
                    0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
                }
            }
        }
    }
}

/// AdamW (Decoupled Weight Decay Regularization, arXiv 1711.05101).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainOptions {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// How it moves.
    pub schedule: Schedule,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay of matrices; vectors (norms, biases) never decay.
    pub weight_decay: f64,
    /// Gradients longer than this are shortened to it.
    pub max_gradient_norm: f64,
}

impl TrainOptions {
    /// The usual values: betas 0.9 and 0.999, no weight decay, gradients cut at norm 1.
    pub fn new(learning_rate: f64, schedule: Schedule) -> Self {
        Self {
            learning_rate,
            schedule,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            max_gradient_norm: 1.0,
        }
    }
}

/// What one optimizer step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Which one it was, from 1.
    pub step: usize,
    /// The learning rate used.
    pub learning_rate: f64,
    /// The norm of the gradient before clipping.
    pub gradient_norm: f64,
}

/// A module in training.
#[derive(Debug)]
pub struct Trainer<M> {
    /// The module, with autodiff on; compute losses with it.
    pub model: M,
    /// How it is trained; may change between steps.
    pub options: TrainOptions,
    step: usize,
    /// First and second moment, by parameter path, flat.
    moments: BTreeMap<String, (Tensor<1>, Tensor<1>)>,
    /// Gradients summed since the last step, by parameter path, flat.
    gradients: BTreeMap<String, Tensor<1>>,
}

impl<M: Module> Trainer<M> {
    /// Starts training a module; this turns autodiff on for its parameters.
    pub fn new(model: M, options: TrainOptions) -> Self {
        Self { model: model.train(), options, step: 0, moments: BTreeMap::new(), gradients: BTreeMap::new() }
    }

    /// Optimizer steps taken.
    pub fn steps(&self) -> usize {
        self.step
    }

    /// The module without autodiff, sharing the weights.
    pub fn valid(&self) -> M {
        self.model.valid()
    }

    /// Ends training and returns the module without autodiff.
    pub fn into_model(self) -> M {
        self.model.valid()
    }

    /// Adds the gradients of a loss to those waiting for the next step.
    ///
    /// Gradients are summed: scale each loss so that the sum over the accumulated parts is the loss of the whole.
    pub fn accumulate(&mut self, loss: Tensor<1>) {
        self.model.visit(&mut Collect {
            path: Vec::new(),
            from: &mut loss.backward(),
            into: &mut self.gradients,
        });
    }

    /// Takes one optimizer step with the gradients accumulated so far, and forgets them.
    pub fn step(&mut self) -> Step {
        let gradients = std::mem::take(&mut self.gradients);
        let gradient_norm = norm(&gradients);
        let options = self.options;
        let learning_rate = options.learning_rate * options.schedule.factor(self.step);
        self.step += 1;
        let mut update = Update {
            path: Vec::new(),
            options,
            learning_rate,
            scale: (options.max_gradient_norm / gradient_norm.max(1e-12)).min(1.0),
            time: self.step as i32,
            gradients,
            moments: &mut self.moments,
        };
        // Mapping consumes the module, which is only borrowed here; clones share the weights until they change.
        self.model = self.model.clone().map(&mut update);
        Step { step: self.step, learning_rate, gradient_norm }
    }

    /// [`Trainer::accumulate`] and [`Trainer::step`].
    pub fn step_on(&mut self, loss: Tensor<1>) -> Step {
        self.accumulate(loss);
        self.step()
    }
}

/// The norm of all gradients together.
fn norm(gradients: &BTreeMap<String, Tensor<1>>) -> f64 {
    let mut squares: Option<Tensor<1>> = None;
    for gradient in gradients.values() {
        for part in gradient.clone().split(SUM_AT_ONCE, 0) {
            let sum = part.square().sum();
            squares = Some(match squares {
                Some(squares) => squares + sum,
                None => sum,
            });
        }
    }
    squares.map_or(0.0, |squares| squares.into_scalar::<f32>() as f64).sqrt()
}

struct Collect<'a> {
    path: Vec<String>,
    from: &'a mut Gradients,
    into: &'a mut BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = param.val().grad_remove(self.from) else { return };
        let gradient = gradient.reshape([-1]);
        let path = self.path.join(".");
        let sum = match self.into.remove(&path) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.into.insert(path, sum);
    }
}

struct Update<'a> {
    path: Vec<String>,
    options: TrainOptions,
    learning_rate: f64,
    scale: f64,
    time: i32,
    gradients: BTreeMap<String, Tensor<1>>,
    moments: &'a mut BTreeMap<String, (Tensor<1>, Tensor<1>)>,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let Some(gradient) = self.gradients.remove(&path) else { return param };
        let TrainOptions { beta_1, beta_2, epsilon, weight_decay, .. } = self.options;
        let gradient = gradient.mul_scalar(self.scale);
        let first = gradient.clone().mul_scalar(1.0 - beta_1);
        let second = gradient.square().mul_scalar(1.0 - beta_2);
        let (first, second) = match self.moments.remove(&path) {
            Some((m, v)) => (m.mul_scalar(beta_1) + first, v.mul_scalar(beta_2) + second),
            None => (first, second),
        };
        // m / (1 - beta_1^t) over sqrt(v / (1 - beta_2^t)) + epsilon, both corrections moved into scalars.
        let root = (1.0 - beta_2.powi(self.time)).sqrt();
        let rate = self.learning_rate * root / (1.0 - beta_1.powi(self.time));
        let change = first.clone() / (second.clone().sqrt().add_scalar(epsilon * root));
        let change = change.mul_scalar(rate);
        self.moments.insert(path, (first, second));
        let decay = if D > 1 { 1.0 - self.learning_rate * weight_decay } else { 1.0 };
        param.map(|weight| {
            let shape = weight.shape();
            let weight = weight.inner();
            let weight = if decay == 1.0 { weight } else { weight.mul_scalar(decay) };
            (weight - change.reshape(shape)).autodiff().require_grad()
        })
    }
}

/// Everything training continues from, in one file that is either the old one or the new one.
#[derive(Debug, Default)]
pub struct Checkpoint {
    tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
    steps: BTreeMap<String, usize>,
    extra: serde_json::Value,
    /// Where it was read from, for messages.
    path: PathBuf,
}

impl Checkpoint {
    /// A checkpoint that also holds what the kind itself must remember: its place in the data, its averages.
    pub fn new(extra: &impl Serialize) -> Self {
        let extra = serde_json::to_value(extra).expect("plain data serializes");
        Self { extra, ..Self::default() }
    }

    /// Adds a trainer under a name. Gradients waiting for a step are not kept: save between steps.
    pub fn add<M: Module>(&mut self, name: &str, trainer: &Trainer<M>) {
        debug_assert!(trainer.gradients.is_empty(), "a checkpoint is taken between steps");
        self.steps.insert(name.to_owned(), trainer.step);
        let mut save = Save { path: vec![format!("{name}/weight")], tensors: &mut self.tensors };
        trainer.model.visit(&mut save);
        for (path, (first, second)) in &trainer.moments {
            self.tensors.insert(format!("{name}/first.{path}"), bytes(first.to_data()));
            self.tensors.insert(format!("{name}/second.{path}"), bytes(second.to_data()));
        }
    }

    /// Gives a trainer, made like the one that was added, the weights, moments and step it had.
    pub fn restore<M: Module>(&self, name: &str, trainer: &mut Trainer<M>) -> Result<(), LmError> {
        let steps = self.steps.get(name);
        trainer.step = *steps.ok_or_else(|| self.failed(format!("there is no `{name}` in it")))?;
        let mut load = Load {
            path: vec![format!("{name}/weight")],
            name,
            checkpoint: self,
            moments: BTreeMap::new(),
            problem: None,
        };
        trainer.model = trainer.model.clone().map(&mut load);
        if let Some(problem) = load.problem {
            return Err(self.failed(problem));
        }
        trainer.moments = load.moments;
        trainer.gradients.clear();
        Ok(())
    }

    /// What [`Checkpoint::new`] was given.
    pub fn extra<T: DeserializeOwned>(&self) -> Result<T, LmError> {
        T::deserialize(&self.extra).map_err(|error| self.failed(error.to_string()))
    }

    /// Writes the checkpoint of a folder, replacing the one before it in one move.
    pub fn save(&self, folder: &Path) -> Result<(), LmError> {
        let state = serde_json::json!({ "steps": self.steps, "extra": self.extra });
        let views = self.tensors.iter().map(|(name, (shape, bytes))| {
            let view =
                TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the bytes came with their shape");
            (name, view)
        });
        let metadata = std::collections::HashMap::from([("state".to_owned(), state.to_string())]);
        let path = folder.join(CHECKPOINT);
        let failed = |problem: String| LmError::Checkpoint { path: path.clone(), problem };
        let bytes =
            safetensors::serialize(views, Some(metadata)).map_err(|error| failed(error.to_string()))?;
        let part = folder.join(format!("{CHECKPOINT}.part"));
        fs::File::create(&part)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&part, &path))
            .map_err(|source| LmError::Io { path: path.clone(), source })
    }

    /// Reads the checkpoint of a folder, if there is one.
    pub fn load(folder: &Path) -> Result<Option<Self>, LmError> {
        let path = folder.join(CHECKPOINT);
        let file = match fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LmError::Io { path, source }),
        };
        let failed = |problem: String| LmError::Checkpoint { path: path.clone(), problem };
        let (_, header) = SafeTensors::read_metadata(&file).map_err(|error| failed(error.to_string()))?;
        let state = header.metadata().as_ref().and_then(|metadata| metadata.get("state"));
        let state = state.ok_or_else(|| failed("it holds no state".into()))?;
        let mut state: serde_json::Value =
            serde_json::from_str(state).map_err(|error| failed(error.to_string()))?;
        let steps =
            serde_json::from_value(state["steps"].take()).map_err(|error| failed(error.to_string()))?;
        let tensors = SafeTensors::deserialize(&file).map_err(|error| failed(error.to_string()))?;
        let tensors = tensors
            .iter()
            .map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), view.data().to_vec())))
            .collect();
        Ok(Some(Self { tensors, steps, extra: state["extra"].take(), path }))
    }

    fn failed(&self, problem: String) -> LmError {
        LmError::Checkpoint { path: self.path.clone(), problem }
    }

    fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Result<Tensor<D>, String> {
        let (shape, bytes) = self.tensors.get(name).ok_or_else(|| format!("`{name}` is not in it"))?;
        if shape.len() != D {
            return Err(format!("`{name}` has {} axes, not {D}", shape.len()));
        }
        let values: Vec<f32> =
            bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Tensor::from_data(TensorData::new(values, shape.clone()), device))
    }
}

fn bytes(data: TensorData) -> (Vec<usize>, Vec<u8>) {
    let shape = data.shape().to_vec();
    (shape, data.iter::<f32>().flat_map(f32::to_le_bytes).collect())
}

struct Save<'a> {
    path: Vec<String>,
    tensors: &'a mut BTreeMap<String, (Vec<usize>, Vec<u8>)>,
}

impl ModuleVisitor for Save<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.tensors.insert(self.path.join("."), bytes(param.val().to_data()));
    }
}

struct Load<'a> {
    path: Vec<String>,
    name: &'a str,
    checkpoint: &'a Checkpoint,
    moments: BTreeMap<String, (Tensor<1>, Tensor<1>)>,
    problem: Option<String>,
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let device = param.val().inner().device();
        let weight = self.checkpoint.tensor::<D>(&self.path.join("."), &device).and_then(|weight| {
            let (found, expected) = (weight.dims(), param.val().dims());
            let path = self.path.join(".");
            (found == expected)
                .then_some(weight)
                .ok_or_else(|| format!("`{path}` has shape {found:?}, not {expected:?}"))
        });
        let weight = match weight {
            Ok(weight) => weight,
            Err(problem) => {
                self.problem.get_or_insert(problem);
                return param;
            }
        };
        let path = self.path[1..].join(".");
        let moment = |kind: &str| self.checkpoint.tensor(&format!("{}/{kind}.{path}", self.name), &device);
        // A parameter that never had a gradient has no moments.
        if let (Ok(first), Ok(second)) = (moment("first"), moment("second")) {
            self.moments.insert(path, (first, second));
        }
        let active = param.is_require_grad();
        param.map(|_| weight.autodiff().set_require_grad(active))
    }
}
