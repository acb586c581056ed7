//! Low-rank adapters (LoRA, arXiv 2106.09685) on the projections of a decoder, in the layout of the PEFT library.
//!
//! An adapted projection computes `x W + (x A) B lora_alpha / r`; `W + A B` is formed only by [`merge`]. [`attach`] freezes
//! every weight of the model, so a [`crate::train::Trainer`] gives gradients, moments and a place in its checkpoints to the
//! adapter alone. What PEFT offers beside plain LoRA (rsLoRA, DoRA, ranks by pattern, trained biases or embeddings) is not
//! computed, and refused where an adapter asks for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, TensorData},
};
use rand::Rng;
use safetensors::{Dtype, tensor::TensorView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{LmError, config::read_json, fused, llama::Llama, shards::Shards};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the checkpoint's name of a projection.
const PREFIX: &str = "base_model.model.";

/// Fields of PEFT's configuration that change what is computed; absent, null, false, empty or `none` means off.
const MUST_BE_OFF: [&str; 20] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "bias",
    "exclude_modules",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "layers_to_transform",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "use_rslora",
    "velora_config",
];

/// A low-rank adapter; fields are named as in PEFT's `LoraConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the update of each projection. Default: 16.
    #[serde(default = "default_r")]
    pub r: usize,
    /// The update is scaled by `lora_alpha / r`. Default: 32.
    #[serde(default = "default_lora_alpha")]
    pub lora_alpha: f64,
    /// The projections that are adapted, by their names in the checkpoint. Default: all seven, `q_proj`, `k_proj`, `v_proj`,
    /// `o_proj`, `gate_proj`, `up_proj` and `down_proj`.
    #[serde(default = "default_target_modules")]
    pub target_modules: BTreeSet<TargetModule>,
}

fn default_r() -> usize {
    16
}

fn default_lora_alpha() -> f64 {
    32.0
}

fn default_target_modules() -> BTreeSet<TargetModule> {
    TargetModule::ALL.into()
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { r: default_r(), lora_alpha: default_lora_alpha(), target_modules: default_target_modules() }
    }
}

impl LoraConfig {
    /// What is wrong with these values, by field.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.r == 0 {
            problems.push(("r", "must be at least 1".to_owned()));
        }
        if !(self.lora_alpha > 0.0 && self.lora_alpha.is_finite()) {
            problems.push(("lora_alpha", "must be above 0".to_owned()));
        }
        if self.target_modules.is_empty() {
            problems.push(("target_modules", "must name at least one projection".to_owned()));
        }
        problems
    }
}

/// A projection of every block of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetModule {
    /// To queries.
    QProj,
    /// To keys.
    KProj,
    /// To values.
    VProj,
    /// From attended values.
    OProj,
    /// To the gate of the feed-forward block.
    GateProj,
    /// To what the gate lets through.
    UpProj,
    /// Back to the residual stream.
    DownProj,
}

impl TargetModule {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    /// Where it stands in a block of the checkpoint.
    fn path(self) -> &'static str {
        match self {
            Self::QProj => "self_attn.q_proj",
            Self::KProj => "self_attn.k_proj",
            Self::VProj => "self_attn.v_proj",
            Self::OProj => "self_attn.o_proj",
            Self::GateProj => "mlp.gate_proj",
            Self::UpProj => "mlp.up_proj",
            Self::DownProj => "mlp.down_proj",
        }
    }
}

/// A projection that may carry an adapter.
///
/// It has the name and the fields of [`burn::nn::Linear`], by which burn's adapters and [`crate::weights`] know that its
/// weight is stored the other way round.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    /// `[input, output]`
    pub(crate) weight: Param<Tensor<2>>,
    /// `[output]`
    pub(crate) bias: Option<Param<Tensor<1>>>,
    adapter: Option<Adapter>,
}

/// The update of one projection.
#[derive(Module, Debug)]
struct Adapter {
    /// A, `[input, r]`.
    lora_a: Param<Tensor<2>>,
    /// B, `[r, output]`.
    lora_b: Param<Tensor<2>>,
    /// `lora_alpha / r`
    #[module(skip)]
    scale: f64,
}

impl Linear {
    /// A projection without an adapter.
    pub(crate) fn new(weight: Param<Tensor<2>>, bias: Option<Param<Tensor<1>>>) -> Self {
        Self { weight, bias, adapter: None }
    }

    /// `x W + b`, and the adapter's update where there is one.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, input]`
    /// - output: `[rows, output]`
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weight.val();
        let projected = match &self.adapter {
            None => fused::product(x, weight),
            Some(Adapter { lora_a, lora_b, scale }) => {
                fused::adapted(x, weight, [lora_a.val(), lora_b.val()], *scale)
            }
        };
        match &self.bias {
            Some(bias) => projected + bias.val().unsqueeze(),
            None => projected,
        }
    }
}

/// Freezes a model and puts a fresh adapter on its projections, which does not change what the model computes yet.
///
/// A is drawn as PEFT draws it, uniform within 1 / sqrt(input) (kaiming with a = sqrt(5)), and B is zero.
///
/// # Panics
///
/// If the configuration has [`LoraConfig::problems`].
pub fn attach(model: Llama, config: &LoraConfig, rng: &mut impl Rng) -> Llama {
    assert!(config.problems().is_empty(), "a configuration is checked before it is used");
    put(model, config, &mut |_, [input, output], device| {
        let bound = 1.0 / (input as f64).sqrt();
        let values: Vec<f32> =
            (0..input * config.r).map(|_| ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32).collect();
        let lora_a = Tensor::from_data(TensorData::new(values, [input, config.r]), device);
        Ok((lora_a, Tensor::zeros([config.r, output], device)))
    })
    .expect("nothing is read")
}

/// A and B of the projection with this name and these sizes (input, output).
type Source<'a> = dyn FnMut(&str, [usize; 2], &Device) -> Result<(Tensor<2>, Tensor<2>), LmError> + 'a;

/// Puts an adapter on a model and leaves nothing else to train.
fn put(model: Llama, config: &LoraConfig, source: &mut Source) -> Result<Llama, LmError> {
    let mut model = merge(model).freeze();
    for (name, target, linear) in projections(&mut model) {
        if config.target_modules.contains(&target) {
            let (lora_a, lora_b) =
                source(&name, linear.weight.lazy_shape().dims(), &linear.weight.lazy_device())?;
            linear.adapter = Some(Adapter {
                lora_a: Param::from_tensor(lora_a),
                lora_b: Param::from_tensor(lora_b),
                scale: config.lora_alpha / config.r as f64,
            });
        }
    }
    Ok(model)
}

/// Adds the updates of a model's adapter to its weights, which can be trained again; a model without one stays as it is.
pub fn merge(mut model: Llama) -> Llama {
    let mut merged = false;
    for (_, _, linear) in projections(&mut model) {
        if let Some(Adapter { lora_a, lora_b, scale }) = linear.adapter.take() {
            let update = lora_a.val().matmul(lora_b.val()).mul_scalar(scale);
            linear.weight = Param::from_tensor(linear.weight.val() + update);
            merged = true;
        }
    }
    if merged { model.unfreeze() } else { model }
}

/// Writes the adapter of a model as PEFT does, into a folder that is made; equal adapters give equal bytes.
///
/// `config` is the one it was attached or loaded with.
pub fn save(model: &Llama, config: &LoraConfig, folder: &Path) -> Result<(), LmError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        |source| LmError::Io { path, source }
    };
    fs::create_dir_all(folder).map_err(io(folder))?;
    let written = json!({
        "base_model_name_or_path": null,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": config.r,
        "target_modules": config.target_modules,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    });
    let path = folder.join(CONFIG);
    let text = serde_json::to_string_pretty(&written).expect("plain data serializes") + "\n";
    fs::write(&path, text).map_err(io(&path))?;

    let mut tensors = BTreeMap::new();
    // Clones share the weights.
    for (name, _, linear) in projections(&mut model.clone()) {
        for (kind, tensor) in linear.adapter.iter().flat_map(|a| [("A", &a.lora_a), ("B", &a.lora_b)]) {
            let [rows, columns] = tensor.dims();
            // PyTorch keeps a projection as [output, input].
            let data = tensor.val().swap_dims(0, 1).into_data();
            let bytes: Vec<u8> = data.iter::<f32>().flat_map(f32::to_le_bytes).collect();
            tensors.insert(tensor_name(&name, kind), ([columns, rows], bytes));
        }
    }
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
        (name, view.expect("the bytes came with their shape"))
    });
    let path = folder.join(WEIGHTS);
    // One metadata entry only: more would be written in the random order of a hash map.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|error| LmError::Weights { path: path.clone(), problem: error.to_string() })?;
    fs::write(&path, bytes).map_err(io(&path))
}

/// Reads an adapter that PEFT or [`save`] wrote and puts it on a model, which is frozen.
pub fn load(model: Llama, folder: &Path) -> Result<(Llama, LoraConfig), LmError> {
    let path = folder.join(CONFIG);
    let config = parse(&read_json(&path)?).map_err(|(field, problem)| LmError::Unsupported {
        path,
        field,
        problem,
    })?;
    let shards = Shards::open_file(&folder.join(WEIGHTS))?;
    let refuse = |problem: String| LmError::Weights { path: shards.path().to_owned(), problem };
    let mut unread: BTreeMap<&str, &[usize]> = shards.shapes().collect();
    let model = put(model, &config, &mut |name, [input, output], device| {
        let mut read = |kind: &str, shape: [usize; 2]| {
            let name = tensor_name(name, kind);
            match unread.remove(name.as_str()) {
                None => Err(refuse(format!("there is no tensor `{name}`"))),
                Some(found) if found != shape => {
                    Err(refuse(format!("tensor `{name}` has shape {found:?}, not {shape:?}")))
                }
                Some(_) => {
                    let data = TensorData::new(shards.read(&name)?, shape);
                    let [columns, rows] = shape;
                    // Through one axis, so that products read it row by row.
                    let turned = Tensor::<2>::from_data(data, device).swap_dims(0, 1);
                    Ok(turned.reshape([rows * columns]).reshape([rows, columns]))
                }
            }
        };
        Ok((read("A", [config.r, input])?, read("B", [output, config.r])?))
    })?;
    match unread.keys().next() {
        Some(name) => Err(refuse(format!("`{name}` is not a projection that `{CONFIG}` describes"))),
        None => Ok((model, config)),
    }
}

/// Several adapters of one model, to be added factor by factor.
#[derive(Debug)]
pub struct Experts {
    /// Carries the first of them.
    model: Llama,
    config: LoraConfig,
    /// A and B of each projection, by expert.
    factors: Vec<Vec<(Tensor<2>, Tensor<2>)>>,
}

impl Experts {
    /// Reads adapters that [`save`] or PEFT wrote; they must have one configuration.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn load(base: Llama, folders: &[PathBuf]) -> Result<Self, LmError> {
        let (first, others) = folders.split_first().expect("there is an expert");
        let (mut model, config) = load(base.clone(), first)?;
        let mut factors = vec![adapters(&mut model)];
        for folder in others {
            let (mut other, found) = load(base.clone(), folder)?;
            if found != config {
                let path = folder.join(CONFIG);
                let problem = format!("it is not configured as `{}`", first.display());
                return Err(LmError::Unsupported { path, field: "peft_type", problem });
            }
            factors.push(adapters(&mut other));
        }
        Ok(Self { model, config, factors })
    }

    /// The configuration of all of them.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The model with one adapter, A = sum w_i A_i and B = sum w_i B_i.
    ///
    /// # Panics
    ///
    /// If there are not as many weights as experts.
    pub fn mixed(&self, weights: &[f64]) -> Llama {
        assert_eq!(weights.len(), self.factors.len(), "an expert has a weight");
        let mut model = self.model.clone();
        let adapted = projections(&mut model).filter_map(|(_, _, linear)| linear.adapter.as_mut());
        for (place, adapter) in adapted.enumerate() {
            let sum = |of: &dyn Fn(&(Tensor<2>, Tensor<2>)) -> Tensor<2>| {
                let terms = self.factors.iter().zip(weights);
                let terms = terms.map(|(factors, weight)| of(&factors[place]).mul_scalar(*weight));
                Param::from_tensor(terms.reduce(|sum, term| sum + term).expect("there is an expert"))
            };
            adapter.lora_a = sum(&|(a, _)| a.clone());
            adapter.lora_b = sum(&|(_, b)| b.clone());
        }
        model
    }
}

/// A and B of every adapted projection.
fn adapters(model: &mut Llama) -> Vec<(Tensor<2>, Tensor<2>)> {
    let adapters = projections(model).filter_map(|(_, _, linear)| linear.adapter.as_ref());
    adapters.map(|adapter| (adapter.lora_a.val(), adapter.lora_b.val())).collect()
}

/// Every projection of a model with its name in the checkpoint.
fn projections(model: &mut Llama) -> impl Iterator<Item = (String, TargetModule, &mut Linear)> {
    model
        .projections()
        .map(|(layer, target, linear)| (format!("model.layers.{layer}.{}", target.path()), target, linear))
}

fn tensor_name(projection: &str, kind: &str) -> String {
    format!("{PREFIX}{projection}.lora_{kind}.weight")
}

/// What we compute for an `adapter_config.json`, or the first field that cannot be honoured.
fn parse(written: &Value) -> Result<LoraConfig, (&'static str, String)> {
    let field = |name: &'static str| written.get(name).unwrap_or(&Value::Null);
    if field("peft_type") != "LORA" {
        return Err(("peft_type", "only `LORA` is".to_owned()));
    }
    for name in MUST_BE_OFF {
        let off = match field(name) {
            Value::Null => true,
            Value::Bool(on) => !on,
            Value::Number(_) => false,
            Value::String(text) => text == "none",
            Value::Array(values) => values.is_empty(),
            Value::Object(values) => values.is_empty(),
        };
        if !off {
            return Err((name, format!("{} is on", field(name))));
        }
    }
    match field("init_lora_weights") {
        Value::Null | Value::Bool(_) => {}
        Value::String(draw) if ["eva", "gaussian", "orthogonal"].contains(&draw.as_str()) => {}
        // PiSSA and its kin take something out of the base weights, which a plain base still has.
        other => return Err(("init_lora_weights", format!("{other} may change the base weights"))),
    }
    let target_modules = match field("target_modules") {
        Value::String(all) if all == "all-linear" => default_target_modules(),
        listed => {
            serde_json::from_value(listed.clone()).map_err(|error| ("target_modules", error.to_string()))?
        }
    };
    let r = field("r").as_u64().and_then(|r| usize::try_from(r).ok());
    let config = LoraConfig {
        r: r.ok_or(("r", "must be a number of columns".to_owned()))?,
        lora_alpha: field("lora_alpha").as_f64().ok_or(("lora_alpha", "must be a number".to_owned()))?,
        target_modules,
    };
    match config.problems().into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(config),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
