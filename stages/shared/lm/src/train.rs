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
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    LmError,
    fused::{self, AdamW},
};

const CHECKPOINT: &str = "checkpoint.safetensors";

/// The entry of a checkpoint that is no tensor.
const STATE: &str = "state";

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
    pub(crate) moments: BTreeMap<String, (Tensor<1>, Tensor<1>)>,
    /// Gradients summed since the last step, by parameter path, flat.
    gradients: BTreeMap<String, Tensor<1>>,
}

impl<M: Module> Trainer<M> {
    /// Starts training a module; this turns autodiff on for its parameters. Frozen ones stay as they are.
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
    ///
    /// Fails, and leaves the weights as they are, where a gradient is infinite or not a number.
    pub fn step(&mut self) -> Result<Step, LmError> {
        let gradients = std::mem::take(&mut self.gradients);
        let gradient_norm = norm(&gradients);
        if !gradient_norm.is_finite() {
            return Err(LmError::Diverged { step: self.step + 1 });
        }
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
        Ok(Step { step: self.step, learning_rate, gradient_norm })
    }

    /// [`Trainer::accumulate`] and [`Trainer::step`].
    pub fn step_on(&mut self, loss: Tensor<1>) -> Result<Step, LmError> {
        self.accumulate(loss);
        self.step()
    }
}

/// The norm of all gradients together.
fn norm(gradients: &BTreeMap<String, Tensor<1>>) -> f64 {
    gradients.values().map(|gradient| fused::squares(gradient.clone())).sum::<f64>().sqrt()
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
        let moments = self.moments.remove(&path);
        let moments = moments.unwrap_or_else(|| (gradient.zeros_like(), gradient.zeros_like()));
        // m / (1 - beta_1^t) over sqrt(v / (1 - beta_2^t)) + epsilon, both corrections moved into scalars.
        let root = (1.0 - beta_2.powi(self.time)).sqrt();
        let step = AdamW {
            beta_1: beta_1 as f32,
            beta_2: beta_2 as f32,
            epsilon: (epsilon * root) as f32,
            rate: (self.learning_rate * root / (1.0 - beta_1.powi(self.time))) as f32,
            decay: if D > 1 { (1.0 - self.learning_rate * weight_decay) as f32 } else { 1.0 },
            scale: self.scale as f32,
        };
        param.map(|weight| {
            let shape = weight.shape();
            let (weight, moments) = fused::adamw(weight.inner().reshape([-1]), gradient, moments, step);
            self.moments.insert(path, moments);
            weight.reshape(shape).autodiff().require_grad()
        })
    }
}

/// Everything training continues from, in one file that is either the old one or the new one.
#[derive(Debug, Default)]
pub struct Checkpoint {
    tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
    state: State,
    /// Where it was read from, for messages.
    path: PathBuf,
}

/// What a checkpoint holds beside tensors. CBOR, not JSON: numbers come back as they were, infinite ones included.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    steps: BTreeMap<String, usize>,
    extra: Option<ciborium::Value>,
}

impl Checkpoint {
    /// A checkpoint that also holds what the kind itself must remember: its place in the data, its averages.
    pub fn new(extra: &impl Serialize) -> Self {
        let extra = ciborium::Value::serialized(extra).expect("plain data serializes");
        Self { state: State { extra: Some(extra), ..State::default() }, ..Self::default() }
    }

    /// Adds a trainer under a name. Gradients waiting for a step are not kept: save between steps. Nor are frozen weights:
    /// the trainer that goes on has to be made with the same.
    pub fn add<M: Module>(&mut self, name: &str, trainer: &Trainer<M>) {
        debug_assert!(trainer.gradients.is_empty(), "a checkpoint is taken between steps");
        self.state.steps.insert(name.to_owned(), trainer.step);
        let mut save = Save { path: vec![format!("{name}/weight")], tensors: &mut self.tensors };
        trainer.model.visit(&mut save);
        for (path, (first, second)) in &trainer.moments {
            self.tensors.insert(format!("{name}/first.{path}"), bytes(first.to_data()));
            self.tensors.insert(format!("{name}/second.{path}"), bytes(second.to_data()));
        }
    }

    /// Gives a trainer, made like the one that was added, the weights, moments and step it had.
    pub fn restore<M: Module>(&self, name: &str, trainer: &mut Trainer<M>) -> Result<(), LmError> {
        let steps = self.state.steps.get(name);
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
        let extra = self.state.extra.as_ref().unwrap_or(&ciborium::Value::Null);
        extra.deserialized().map_err(|error| self.failed(error.to_string()))
    }

    /// Writes the checkpoint of a folder, replacing the one before it in one move.
    pub fn save(&self, folder: &Path) -> Result<(), LmError> {
        let mut state = Vec::new();
        ciborium::into_writer(&self.state, &mut state).expect("plain data serializes into memory");
        let view = |dtype, shape: &[usize], bytes| {
            TensorView::new(dtype, shape.to_vec(), bytes).expect("the bytes came with their shape")
        };
        let mut views: Vec<(&str, TensorView)> = vec![(STATE, view(Dtype::U8, &[state.len()], &state))];
        views.extend(
            self.tensors.iter().map(|(name, (shape, bytes))| (name.as_str(), view(Dtype::F32, shape, bytes))),
        );
        let path = folder.join(CHECKPOINT);
        let failed = |problem: String| LmError::Checkpoint { path: path.clone(), problem };
        let bytes = safetensors::serialize(views, None).map_err(|error| failed(error.to_string()))?;
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
        let tensors = SafeTensors::deserialize(&file).map_err(|error| failed(error.to_string()))?;
        let state = tensors.tensor(STATE).map_err(|error| failed(error.to_string()))?;
        let state = ciborium::from_reader(state.data()).map_err(|error| failed(error.to_string()))?;
        let tensors = tensors.iter().filter(|(name, _)| *name != STATE);
        let tensors = tensors
            .map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), view.data().to_vec())))
            .collect();
        Ok(Some(Self { tensors, state, path }))
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
        if !param.is_require_grad() {
            return;
        }
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
        if !param.is_require_grad() {
            return param;
        }
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
        param.map(|_| weight.autodiff().require_grad())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::{
        batch::{Sequence, collate},
        fixture,
        llama::{Llama, LlamaConfig},
        lora,
    };

    fn trainer(seed: u64) -> Trainer<Llama> {
        Trainer::new(
            fixture::llama(seed),
            TrainOptions::new(3e-3, Schedule::Cosine { steps: 60, warmup: 0.1 }),
        )
    }

    fn loss(model: &Llama, sequences: &[Sequence]) -> Tensor<1> {
        let batch = collate(&sequences.iter().collect::<Vec<_>>(), &fixture::device());
        batch.token_losses(model, batch.hidden(model))
    }

    fn weights(trainer: &Trainer<Llama>) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
        let mut checkpoint = Checkpoint::default();
        checkpoint.add("model", trainer);
        checkpoint.tensors
    }

    #[test]
    fn a_two_layer_model_overfits_one_batch() {
        let sequences = fixture::sequences(4);
        let mut trainer = trainer(1);
        trainer.options.learning_rate = 1e-2;
        let before = loss(&trainer.model, &sequences).mean().into_scalar::<f32>();
        for step in 1..=60 {
            let report = trainer.step_on(loss(&trainer.model, &sequences).mean()).unwrap();
            assert_eq!(report.step, step);
            assert!(report.gradient_norm > 0.0);
        }
        let after = loss(&trainer.into_model(), &sequences).mean().into_scalar::<f32>();
        assert!(before > 5.0 && after < 0.3, "{before} -> {after}");
    }

    #[test]
    fn eight_in_one_equal_eight_accumulated() {
        let sequences = fixture::sequences(8);
        let (mut whole, mut parts) = (trainer(1), trainer(1));
        let one = whole.step_on(loss(&whole.model, &sequences).sum() / 8.0).unwrap();
        for sequence in &sequences {
            parts.accumulate(loss(&parts.model, std::slice::from_ref(sequence)).sum() / 8.0);
        }
        let eight = parts.step().unwrap();
        assert!((one.gradient_norm - eight.gradient_norm).abs() < 1e-5 * one.gradient_norm);
        let value =
            |trainer: &Trainer<Llama>| loss(&trainer.valid(), &sequences).sum().into_scalar::<f32>() as f64;
        fixture::assert_close(&[value(&whole)], &[value(&parts)], 1e-5);
    }

    #[test]
    fn one_step_is_adamw_worked_out_by_hand() {
        let options = TrainOptions { weight_decay: 0.5, ..TrainOptions::new(0.1, Schedule::Constant) };
        let device = fixture::device();
        let linear = burn::nn::Linear {
            weight: Param::from_data([[1.0f32], [2.0]], &device),
            bias: Some(Param::from_data([3.0f32], &device)),
        };
        let mut trainer = Trainer::new(linear, options);
        // The gradient is (3, 4) in the weight and 0 in the bias; its norm is 5 and it is cut to (0.6, 0.8).
        let x = Tensor::<2>::from_data([[3.0f32, 4.0]], &device);
        let y = trainer.model.forward(x).sum() - trainer.model.bias.as_ref().unwrap().val().sum();
        assert_eq!(trainer.step_on(y).unwrap().gradient_norm, 5.0);
        // First step of Adam: m / sqrt(v) is the gradient's sign. 1 (1 - 0.05) - 0.1, 2 (1 - 0.05) - 0.1.
        let weight: Vec<f64> = trainer.model.weight.val().into_data().iter::<f64>().collect();
        fixture::assert_close(&weight, &[0.85, 1.8], 1e-6);
        let bias: Vec<f64> = trainer.model.bias.unwrap().val().into_data().iter::<f64>().collect();
        assert_eq!(bias, [3.0]);
    }

    #[test]
    fn the_cosine_warms_up_and_ends_at_zero() {
        let schedule = Schedule::Cosine { steps: 110, warmup: 10.0 / 110.0 };
        assert_eq!(schedule.factor(0), 0.1);
        assert_eq!(schedule.factor(9), 1.0);
        assert_eq!(schedule.factor(10), 1.0);
        assert!((schedule.factor(60) - 0.5).abs() < 1e-12);
        assert!(schedule.factor(110) < 1e-12);
    }

    #[test]
    fn a_killed_training_resumes_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let sequences = fixture::sequences(12);
        let train = |trainer: &mut Trainer<Llama>, steps: std::ops::Range<usize>| {
            for step in steps {
                let loss = loss(&trainer.model, &sequences[step % 3 * 4..][..4]).mean();
                trainer.step_on(loss).unwrap();
            }
        };
        let mut straight = trainer(1);
        train(&mut straight, 0..10);

        assert!(Checkpoint::load(folder.path()).unwrap().is_none());
        let mut killed = trainer(1);
        train(&mut killed, 0..6);
        // JSON would round the first number and lose the second.
        let extra = [0.1 + 0.2 + 1e-17 / 3.0, f64::INFINITY, 2.0 / 3.0 * 1e-300];
        let mut checkpoint = Checkpoint::new(&extra);
        checkpoint.add("student", &killed);
        checkpoint.save(folder.path()).unwrap();
        train(&mut killed, 6..8);
        drop(killed);

        let checkpoint = Checkpoint::load(folder.path()).unwrap().unwrap();
        assert_eq!(checkpoint.extra::<[f64; 3]>().unwrap(), extra);
        // Another seed: everything must come from the checkpoint.
        let mut resumed = trainer(2);
        checkpoint.restore("student", &mut resumed).unwrap();
        assert_eq!(resumed.steps(), 6);
        train(&mut resumed, 6..10);
        assert_eq!(weights(&resumed), weights(&straight));

        let error = checkpoint.restore("assistant", &mut trainer(2)).unwrap_err();
        assert!(error.to_string().contains("there is no `assistant` in it"), "{error}");
    }

    #[test]
    fn a_gradient_that_is_no_number_ends_training_and_spoils_nothing() {
        let sequences = fixture::sequences(4);
        let mut trainer = trainer(1);
        trainer.step_on(loss(&trainer.model, &sequences).mean()).unwrap();
        let before = weights(&trainer);
        for factor in [f64::NAN, f64::INFINITY] {
            let loss = loss(&trainer.model, &sequences).mean().mul_scalar(factor);
            let error = contract::StageError::from(trainer.step_on(loss).unwrap_err());
            assert_eq!(error.to_string(), "training diverged: a loss or gradient of step 2 is not finite");
            assert_eq!(error.help(), Some("lower `learning_rate`, or warm it up for longer"));
        }
        assert_eq!(weights(&trainer), before);
        assert_eq!(trainer.step_on(loss(&trainer.model, &sequences).mean()).unwrap().step, 2);
    }

    #[test]
    fn the_number_of_threads_does_not_change_the_weights() {
        // Large enough for flex to split matrix products, softmax rows and copies over threads.
        let config = LlamaConfig { hidden_size: 128, intermediate_size: 384, ..fixture::config() };
        let run = |threads: usize, adapt: bool| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let model = Llama::init(&config, 1, &fixture::device());
                let model = match adapt {
                    true => {
                        lora::attach(model, &lora::LoraConfig::default(), &mut SmallRng::seed_from_u64(1))
                    }
                    false => model,
                };
                let mut trainer = Trainer::new(model, TrainOptions::new(1e-3, Schedule::Constant));
                // The second step is the first in which both matrices of an adapter learn.
                for _ in 0..2 {
                    trainer.step_on(loss(&trainer.model, &fixture::sequences(64)).mean()).unwrap();
                }
                weights(&trainer)
            })
        };
        assert_eq!(run(1, false), run(2, false));
        assert_eq!(run(1, true), run(2, true));
    }
}
