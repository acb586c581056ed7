//! Fills a model with the tensors of a checkpoint, each read when its turn comes.
//!
//! A model is made only after its size has been compared with the files', every weight must be there in the right
//! shape, and a tensor that the configuration does not describe is refused: to ignore it would be to compute another model.

use std::{collections::BTreeSet, path::Path};

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Tensor, TensorData},
};

use crate::{
    LmError,
    llama::{Llama, LlamaConfig},
};

/// Where tensors come from, by the names of a Hugging Face checkpoint.
pub(crate) trait Weights {
    /// The file to name in messages.
    fn path(&self) -> &Path;
    /// All tensors with their shapes; a projection is `[output, input]`.
    fn shapes(&self) -> Vec<(&str, &[usize])>;
    /// The values of a tensor, the last axis fastest.
    fn read(&self, name: &str) -> Result<Vec<f32>, LmError>;
}

/// How many tensors a message lists.
const LISTED: usize = 3;

/// Tensors that are computed from others, or copies; older exporters wrote them.
fn is_redundant(name: &str, config: &LlamaConfig) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || config.tie_word_embeddings && name == "lm_head.weight"
}

/// A model with the weights of a checkpoint, in 32-bit floats.
pub(crate) fn load(config: &LlamaConfig, weights: &dyn Weights, device: &Device) -> Result<Llama, LmError> {
    let refuse = |problem: String| LmError::Weights { path: weights.path().to_owned(), problem };
    let mut shapes = weights.shapes();
    shapes.sort_unstable();
    let held = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).fold(0, usize::saturating_add);
    match config.parameters() {
        Some(described) if described <= held => {}
        described => {
            let described = described.map_or("more than any machine holds".into(), |count| count.to_string());
            let problem = format!("it holds {held} values, the configuration describes {described}");
            return Err(refuse(problem));
        }
    }
    let mut unused: BTreeSet<&str> = shapes.iter().map(|(name, _)| *name).collect();
    unused.retain(|name| !is_redundant(name, config));
    let mut fill = Fill { path: Vec::new(), containers: Vec::new(), weights, shapes, unused, problem: None };
    let model = Llama::blank(config, device).map(&mut fill);
    if let Some(problem) = fill.problem {
        return Err(problem);
    }
    if !fill.unused.is_empty() {
        let first: Vec<&str> = fill.unused.iter().copied().take(LISTED).collect();
        let rest = fill.unused.len() - first.len();
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        let first = first.join("`, `");
        return Err(refuse(format!("the configuration does not describe `{first}`{rest}")));
    }
    Ok(model)
}

struct Fill<'a> {
    path: Vec<String>,
    containers: Vec<String>,
    weights: &'a dyn Weights,
    shapes: Vec<(&'a str, &'a [usize])>,
    unused: BTreeSet<&'a str>,
    problem: Option<LmError>,
}

impl Fill<'_> {
    fn tensor<const D: usize>(&mut self, shape: [usize; D], device: &Device) -> Result<Tensor<D>, LmError> {
        let mut name = self.path.join(".");
        let container = self.containers.last().map_or("", String::as_str);
        if container == "Struct:RmsNorm"
            && let Some(stem) = name.strip_suffix("gamma")
        {
            name = format!("{stem}weight");
        }
        // burn keeps a projection as [input, output].
        let turned = container == "Struct:Linear" && D == 2;
        let mut stored = shape;
        if turned {
            stored.reverse();
        }
        let refuse = |problem: String| LmError::Weights { path: self.weights.path().to_owned(), problem };
        match self.shapes.binary_search_by_key(&name.as_str(), |(name, _)| name) {
            Err(_) => return Err(refuse(format!("there is no tensor `{name}`"))),
            Ok(place) if self.shapes[place].1 != stored => {
                let found = self.shapes[place].1;
                return Err(refuse(format!("tensor `{name}` has shape {found:?}, not {stored:?}")));
            }
            Ok(_) => {}
        }
        self.unused.remove(name.as_str());
        let tensor = Tensor::from_data(TensorData::new(self.weights.read(&name)?, stored), device);
        if !turned {
            return Ok(tensor);
        }
        // Through one axis: a transposed view would be read column by column in every product from here on.
        let elements = shape.iter().product::<usize>();
        Ok(tensor.swap_dims(0, 1).reshape([elements]).reshape(shape))
    }
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.problem.is_some() {
            return param;
        }
        let (shape, device) = (param.lazy_shape().dims(), param.lazy_device());
        match self.tensor(shape, &device) {
            Ok(tensor) => {
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            Err(problem) => {
                self.problem = Some(problem);
                param
            }
        }
    }
}
